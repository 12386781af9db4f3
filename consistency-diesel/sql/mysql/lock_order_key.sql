SELECT slot FROM consistency_order_lock WHERE slot = CRC32({order_key}) % 256 FOR UPDATE
