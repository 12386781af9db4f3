//! Creates the shop's tables where they are missing. A real application would use migrations.

/// SQLite: an `INTEGER PRIMARY KEY` is the row's own number.
#[cfg(feature = "sqlite")]
pub(super) const SQLITE: &str = "
    CREATE TABLE IF NOT EXISTS customer_order (
        order_no INTEGER PRIMARY KEY NOT NULL,
        customer_id BIGINT NOT NULL,
        ordered_on TEXT NOT NULL,
        quantity INTEGER NOT NULL,
        amount_cents BIGINT NOT NULL,
        state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'finished')),
        parcel_no TEXT
    );
    CREATE TABLE IF NOT EXISTS stock_booking (
        id INTEGER PRIMARY KEY NOT NULL,
        order_no BIGINT NOT NULL,
        quantity INTEGER NOT NULL
    );";

/// PostgreSQL.
#[cfg(feature = "postgres")]
pub(super) const POSTGRES: &str = "
    SET client_min_messages = warning;
    CREATE TABLE IF NOT EXISTS customer_order (
        order_no BIGINT PRIMARY KEY,
        customer_id BIGINT NOT NULL,
        ordered_on TEXT NOT NULL,
        quantity INTEGER NOT NULL,
        amount_cents BIGINT NOT NULL,
        state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'finished')),
        parcel_no TEXT
    );
    CREATE TABLE IF NOT EXISTS stock_booking (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        order_no BIGINT NOT NULL,
        quantity INTEGER NOT NULL
    );";

/// MySQL and MariaDB.
#[cfg(feature = "mysql")]
pub(super) const MYSQL: &str = "
    CREATE TABLE IF NOT EXISTS customer_order (
        order_no BIGINT PRIMARY KEY,
        customer_id BIGINT NOT NULL,
        ordered_on VARCHAR(10) NOT NULL,
        quantity INTEGER NOT NULL,
        amount_cents BIGINT NOT NULL,
        state VARCHAR(8) NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'finished')),
        parcel_no VARCHAR(20)
    );
    CREATE TABLE IF NOT EXISTS stock_booking (
        id BIGINT AUTO_INCREMENT PRIMARY KEY,
        order_no BIGINT NOT NULL,
        quantity INTEGER NOT NULL
    );";
