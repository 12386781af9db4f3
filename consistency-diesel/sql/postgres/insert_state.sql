-- The proof that the caller's transaction is open: without it the state is none, which its type refuses. (A column that refuses
-- NULL would have the server log the row.)
CASE WHEN current_setting('consistency.proof', true) = 'open' THEN {state} ELSE -1 END
