//! The tables as Diesel sees them: the shop's own two, and the columns of the outbox's table that the report counts.

diesel::table! {
    customer_order (order_no) {
        order_no -> BigInt,
        customer_id -> BigInt,
        /// ISO 8601, as in the file.
        ordered_on -> Text,
        quantity -> Integer,
        amount_cents -> BigInt,
        /// `open` or `finished`.
        state -> Text,
        parcel_no -> Nullable<Text>,
    }
}

diesel::table! {
    stock_booking (id) {
        id -> BigInt,
        order_no -> BigInt,
        quantity -> Integer,
    }
}

diesel::table! {
    consistency_task (id) {
        id -> BigInt,
        method_name -> Text,
        state -> SmallInt,
        execute_times -> Integer,
    }
}
