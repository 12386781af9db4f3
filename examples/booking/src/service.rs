//! The service on a SQLite connection. It opens its own transactions, and knows neither threads nor pools.

use consistency_diesel::prelude::*;
use diesel::prelude::*;

use crate::error::BookingError;
use crate::mail::mail;
use crate::schema::{booking, guest_points};

/// What a night is worth.
pub(crate) const POINTS: i32 = 10;

/// Books a room for a night, and confirms it by mail.
///
/// # Errors
/// [`BookingError::Taken`], or the database's.
pub fn book(
    conn: &mut SqliteConnection,
    outbox: &Outbox,
    room: i32,
    night: &str,
    guest: &str,
) -> Result<(), BookingError> {
    outbox.transaction(conn, |tx| {
        diesel::insert_into(booking::table)
            .values((booking::room.eq(room), booking::night.eq(night), booking::guest.eq(guest)))
            .execute(tx)?;
        tx.enqueue(mail(guest, &format!("room {room} is yours on {night}")))?;
        Ok(())
    })
}

/// Lets a guest go, and credits the night.
///
/// # Errors
/// [`BookingError::NotBooked`], or the database's.
pub fn check_out(conn: &mut SqliteConnection, outbox: &Outbox, room: i32, night: &str) -> Result<(), BookingError> {
    outbox.transaction(conn, |tx| {
        // Looked for and changed in one statement: of two who let the same guest go at once, one finds nobody.
        let stay = booking::table.find((room, night)).filter(booking::checked_out.eq(false));
        let gone = diesel::update(stay).set(booking::checked_out.eq(true)).returning(booking::guest);
        let guest: String = gone.get_result(tx).optional()?.ok_or(BookingError::NotBooked)?;
        tx.enqueue(credit(&guest, POINTS))?;
        Ok(())
    })
}

/// Credits points, and says so by mail: both commit together with the task's own completion, so exactly once.
#[consistency_task(name = "booking.credit")]
pub fn credit(guest: &str, points: i32, #[tx] tx: &mut TaskTx<SqliteConnection>) -> QueryResult<()> {
    diesel::insert_into(guest_points::table)
        .values((guest_points::guest.eq(guest), guest_points::points.eq(points)))
        .on_conflict(guest_points::guest)
        .do_update()
        .set(guest_points::points.eq(guest_points::points + points))
        .execute(tx)?;
    tx.enqueue(mail(guest, &format!("you have {points} points more")))?;
    Ok(())
}
