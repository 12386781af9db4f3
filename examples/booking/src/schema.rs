//! The hotel's two tables.

diesel::table! {
    /// Who sleeps where.
    booking (room, night) {
        /// The room's number.
        room -> Integer,
        /// ISO 8601.
        night -> Text,
        /// The guest's address.
        guest -> Text,
        /// Whether the guest has left.
        checked_out -> Bool,
    }
}

diesel::table! {
    /// What a guest has collected.
    guest_points (guest) {
        /// The guest's address.
        guest -> Text,
        /// How many points.
        points -> Integer,
    }
}

/// Creates the tables where they are missing, on SQLite and PostgreSQL. A real application would use migrations.
pub const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS booking (
        room INTEGER NOT NULL,
        night TEXT NOT NULL,
        guest TEXT NOT NULL,
        checked_out BOOLEAN NOT NULL DEFAULT FALSE,
        PRIMARY KEY (room, night)
    );
    CREATE TABLE IF NOT EXISTS guest_points (guest TEXT PRIMARY KEY NOT NULL, points INTEGER NOT NULL);";
