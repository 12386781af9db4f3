CREATE TABLE IF NOT EXISTS stock (
    sku     TEXT PRIMARY KEY,
    on_hand INTEGER NOT NULL CHECK (on_hand >= 0)
);

CREATE TABLE IF NOT EXISTS orders (
    id              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Chosen by the client: an order that is sent again is found by it.
    idempotency_key TEXT NOT NULL UNIQUE,
    sku             TEXT NOT NULL REFERENCES stock,
    quantity        INTEGER NOT NULL CHECK (quantity > 0),
    state           TEXT NOT NULL DEFAULT 'placed' CHECK (state IN ('placed', 'packed', 'shipped', 'sold_out'))
);

-- Something to order. What is there already stays as it is.
INSERT INTO stock (sku, on_hand) VALUES ('chair', 100), ('table', 20) ON CONFLICT DO NOTHING;
