//! The same service on an `AsyncPgConnection`. It sends the same mail; `credit` has a twin of the same name, because a `#[tx]`
//! parameter names its connection.

use consistency_diesel::async_prelude::*;
use diesel::prelude::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::error::BookingError;
use crate::mail::mail;
use crate::schema::{booking, guest_points};
use crate::service::POINTS;

/// Books a room for a night, and confirms it by mail.
///
/// # Errors
/// [`BookingError::Taken`], or the database's.
pub async fn book(
    conn: &mut AsyncPgConnection,
    outbox: &Outbox,
    room: i32,
    night: &str,
    guest: &str,
) -> Result<(), BookingError> {
    outbox
        .transaction(conn, async |tx| {
            diesel::insert_into(booking::table)
                .values((booking::room.eq(room), booking::night.eq(night), booking::guest.eq(guest)))
                .execute(tx)
                .await?;
            tx.enqueue(mail(guest, &format!("room {room} is yours on {night}"))).await?;
            Ok(())
        })
        .await
}

/// Lets a guest go, and credits the night.
///
/// # Errors
/// [`BookingError::NotBooked`], or the database's.
pub async fn check_out(
    conn: &mut AsyncPgConnection,
    outbox: &Outbox,
    room: i32,
    night: &str,
) -> Result<(), BookingError> {
    outbox
        .transaction(conn, async |tx| {
            // Looked for and changed in one statement: of two who let the same guest go at once, one finds nobody.
            let stay = booking::table.find((room, night)).filter(booking::checked_out.eq(false));
            let gone = diesel::update(stay).set(booking::checked_out.eq(true)).returning(booking::guest);
            let guest: String = gone.get_result(tx).await.optional()?.ok_or(BookingError::NotBooked)?;
            tx.enqueue(credit(&guest, POINTS)).await?;
            Ok(())
        })
        .await
}

/// Credits points, and says so by mail: both commit together with the task's own completion, so exactly once.
#[consistency_task(name = "booking.credit")]
pub async fn credit(guest: &str, points: i32, #[tx] tx: &mut TaskTx<'_, AsyncPgConnection>) -> QueryResult<()> {
    diesel::insert_into(guest_points::table)
        .values((guest_points::guest.eq(guest), guest_points::points.eq(points)))
        .on_conflict(guest_points::guest)
        .do_update()
        .set(guest_points::points.eq(guest_points::points + points))
        .execute(tx)
        .await?;
    tx.enqueue(mail(guest, &format!("you have {points} points more"))).await?;
    Ok(())
}
