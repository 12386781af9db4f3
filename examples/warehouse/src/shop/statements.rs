//! The shop's statements: one text, stamped out per connection type, because Diesel code that is generic over the database
//! needs bounds nobody can read.

use std::collections::HashSet;

use diesel::connection::SimpleConnection;
use diesel::dsl::{count_star, exists};
use diesel::prelude::*;

use super::schema::{consistency_task, customer_order, stock_booking};
use super::{Document, Shop, TaskCount, tables};
use crate::orders::Order;

/// The states a task leaves by itself: pending, running, failed (will be retried), blocked.
const UNFINISHED: [i16; 4] = [0, 1, 3, 5];

macro_rules! shop_on {
    ($Connection:ident, producers: $producers:literal, set_up: $set_up:expr) => {
        impl Shop for diesel::$Connection {
            const PRODUCERS: usize = $producers;

            fn set_up(&mut self) -> QueryResult<()> {
                $set_up.iter().try_for_each(|statements| self.batch_execute(statements))
            }

            fn order_numbers(&mut self) -> QueryResult<HashSet<i64>> {
                let numbers: Vec<i64> = customer_order::table.select(customer_order::order_no).load(self)?;
                Ok(numbers.into_iter().collect())
            }

            fn insert_order(&mut self, order: &Order) -> QueryResult<()> {
                diesel::insert_into(customer_order::table).values(order).execute(self)?;
                Ok(())
            }

            fn complete_document(&mut self, order_no: i64) -> QueryResult<Option<Document>> {
                let order = customer_order::table.find(order_no);
                let open = order.filter(customer_order::state.eq("open"));
                if diesel::update(open).set(customer_order::state.eq("finished")).execute(self)? == 0 {
                    return Ok(None);
                }
                let quantity = order.select(customer_order::quantity).first(self)?;
                Ok(Some(Document { order_no, quantity }))
            }

            fn book_stock(&mut self, document: &Document) -> QueryResult<()> {
                let booking =
                    (stock_booking::order_no.eq(document.order_no), stock_booking::quantity.eq(-document.quantity));
                diesel::insert_into(stock_booking::table).values(booking).execute(self)?;
                Ok(())
            }

            fn dispatch_parcel(&mut self, document: &Document) -> QueryResult<String> {
                let parcel_no = format!("P{:07}", document.order_no);
                diesel::update(customer_order::table.find(document.order_no))
                    .set(customer_order::parcel_no.eq(&parcel_no))
                    .execute(self)?;
                Ok(parcel_no)
            }

            fn task_counts(&mut self, names: &[&str]) -> QueryResult<Vec<TaskCount>> {
                use consistency_task::{execute_times, method_name, state};
                consistency_task::table
                    .filter(method_name.eq_any(names))
                    .group_by((method_name, state, execute_times))
                    .select((method_name, state, execute_times, count_star()))
                    .load(self)
            }

            fn has_unfinished_tasks(&mut self, names: &[&str]) -> QueryResult<bool> {
                use consistency_task::{method_name, state};
                let unfinished =
                    consistency_task::table.filter(state.eq_any(UNFINISHED)).filter(method_name.eq_any(names));
                diesel::select(exists(unfinished)).get_result(self)
            }
        }
    };
}

#[cfg(feature = "sqlite")]
shop_on!(
    SqliteConnection,
    producers: 1,
    // Readers beside the writer, and patience when another connection writes.
    set_up: ["PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL;", tables::SQLITE]
);

#[cfg(feature = "postgres")]
shop_on!(PgConnection, producers: 4, set_up: [tables::POSTGRES]);

#[cfg(feature = "mysql")]
shop_on!(MysqlConnection, producers: 4, set_up: [tables::MYSQL]);
