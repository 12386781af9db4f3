//! Other attributes beside ours: `#[cfg]`, `#[deprecated]`, lints, and attributes that rewrite the body.
#![deny(warnings, missing_docs)]

use consistency_diesel::prelude::*;

/// Left out.
#[cfg(any())]
#[consistency_task]
pub fn left_out(missing: Missing) {}

/// Left out too.
#[consistency_task]
#[cfg(any())]
pub fn left_out_below(missing: Missing) {}

/// Old.
#[deprecated(note = "use `new`")]
#[consistency_task]
pub fn old(id: i64) {
    let _ = id;
}

/// Many.
#[consistency_task]
#[allow(clippy::too_many_arguments)]
#[doc(hidden)]
pub fn many(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) {
    let _ = (a, b, c, d, e, f, g, h);
}

/// Traced.
#[consistency_task]
#[tracing::instrument(skip(secret))]
pub async fn traced_below(id: i64, secret: &str) -> Result<(), String> {
    let _ = (id, secret);
    Ok(())
}

/// Inlined.
#[consistency_task]
#[inline]
#[expect(unused_variables)]
pub fn expecting(#[allow(unused)] id: i64, other: i64) -> Result<(), String> {
    Ok(())
}

mod later {
    use consistency_diesel::prelude::*;

    #[consistency_task]
    pub(crate) fn body(run: i64) {
        let _ = run;
    }
}

fn main() {
    #[allow(deprecated)]
    drop(old(1));
    drop((many(1, 2, 3, 4, 5, 6, 7, 8), traced_below(1, ""), expecting(1, 2), later::body(1)));
    later::body::body(1);

    #[consistency_task]
    fn inside_a_function(id: i64) -> Result<(), String> {
        let _ = id;
        Ok(())
    }
    drop(inside_a_function(1));
}
