//! An order as it is stored and shown.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Text;
use serde::Serialize;

use crate::schema::orders;

/// An order, as the table has it and as `GET /orders/{id}` shows it.
#[derive(Debug, Queryable, Selectable, Serialize)]
#[diesel(table_name = orders, check_for_backend(Pg))]
pub(crate) struct Order {
    pub(crate) id: i64,
    pub(crate) sku: String,
    pub(crate) quantity: i32,
    pub(crate) state: OrderState,
}

/// An order to be stored.
#[derive(Debug, Insertable)]
#[diesel(table_name = orders)]
pub(crate) struct NewOrder<'a> {
    pub(crate) idempotency_key: &'a str,
    pub(crate) sku: &'a str,
    pub(crate) quantity: i32,
}

/// How far an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression, FromSqlRow, Serialize)]
#[diesel(sql_type = Text)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OrderState {
    /// Stored.
    Placed,
    /// Taken from stock.
    Packed,
    /// The shipper knows of it.
    Shipped,
    /// There was not enough in stock; nothing was taken.
    SoldOut,
}

impl OrderState {
    const ALL: [Self; 4] = [Self::Placed, Self::Packed, Self::Shipped, Self::SoldOut];

    /// As it stands in the table.
    fn text(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Packed => "packed",
            Self::Shipped => "shipped",
            Self::SoldOut => "sold_out",
        }
    }
}

impl ToSql<Text, Pg> for OrderState {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        <str as ToSql<Text, Pg>>::to_sql(self.text(), out)
    }
}

impl FromSql<Text, Pg> for OrderState {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let text = <String as FromSql<Text, Pg>>::from_sql(value)?;
        let state = Self::ALL.into_iter().find(|state| state.text() == text);
        state.ok_or_else(|| format!("`{text}` is no state of an order").into())
    }
}
