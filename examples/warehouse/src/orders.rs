//! Reads the orders from CSV: `order_no,customer_id,ordered_on,quantity,amount`, one order a line.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use csv::StringRecord;
use diesel::prelude::Insertable;

use crate::shop::schema::customer_order;

/// The committed copy, built in so that the program runs from anywhere; `data/README.md` names the source.
const COMMITTED: &[u8] = include_bytes!("../data/cdnow-orders.csv");
const HEADER: [&str; 5] = ["order_no", "customer_id", "ordered_on", "quantity", "amount"];

/// One order of the file, and the columns of `customer_order` it fills.
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = customer_order)]
pub(crate) struct Order {
    pub(crate) order_no: i64,
    customer_id: i64,
    ordered_on: String,
    quantity: i32,
    amount_cents: i64,
}

/// Reads `file`, or the committed copy without one.
pub(crate) fn read(file: Option<&Path>) -> Result<Vec<Order>> {
    match file {
        None => parse(COMMITTED).context("the built-in orders"),
        Some(path) => {
            let name = path.display();
            let file = File::open(path).with_context(|| format!("cannot open the orders file {name}"))?;
            parse(file).with_context(|| format!("orders file {name}"))
        }
    }
}

/// Reads all orders; an error names the line.
fn parse(input: impl Read) -> Result<Vec<Order>> {
    let mut reader = csv::Reader::from_reader(input);
    let header = reader.headers().context("line 1")?;
    ensure!(header == HEADER[..], "line 1: expected the header `{}`", HEADER.join(","));

    let mut orders = Vec::new();
    let mut line_of = HashMap::new();
    for record in reader.records() {
        // The reader's own errors carry the line in their text.
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let order = order(&record).with_context(|| format!("line {line}"))?;
        if let Some(first) = line_of.insert(order.order_no, line) {
            return Err(anyhow!("line {line}: order number {} is already in line {first}", order.order_no));
        }
        orders.push(order);
    }
    ensure!(!orders.is_empty(), "there are no orders in it");
    Ok(orders)
}

fn order(record: &StringRecord) -> Result<Order> {
    let field = |index: usize| record.get(index).unwrap_or_default();
    let number = |index: usize| -> Result<i64> {
        let text = field(index);
        text.parse().map_err(|_| anyhow!("{} `{text}` is no whole number", HEADER[index]))
    };
    let quantity = i32::try_from(number(3)?).ok().filter(|quantity| *quantity > 0);
    Ok(Order {
        order_no: number(0)?,
        customer_id: number(1)?,
        ordered_on: date(field(2))?,
        quantity: quantity.ok_or_else(|| anyhow!("quantity `{}` is out of range", field(3)))?,
        amount_cents: cents(field(4)).ok_or_else(|| anyhow!("amount `{}` is no amount like 29.33", field(4)))?,
    })
}

/// Checks the form `1997-01-31`; the calendar is left to the shop that wrote the file.
fn date(text: &str) -> Result<String> {
    let parts: Vec<&str> = text.split('-').collect();
    let digits = |part: &str, length: usize| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
    match parts[..] {
        [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2) => Ok(text.to_owned()),
        _ => Err(anyhow!("ordered_on `{text}` is no date like 1997-01-31")),
    }
}

/// Dollars with at most two decimals, as whole cents: money is never a float.
fn cents(text: &str) -> Option<i64> {
    let (dollars, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if dollars.is_empty() || fraction.len() > 2 || !all_digits(dollars) || !all_digits(fraction) {
        return None;
    }
    let dollars: i64 = dollars.parse().ok()?;
    let fraction: i64 = format!("{fraction:0<2}").parse().ok()?;
    dollars.checked_mul(100)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(lines: &str) -> String {
        let text = format!("{}\n{lines}\n", HEADER.join(","));
        format!("{:#}", parse(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn the_committed_copy_is_whole() {
        let orders = read(None).unwrap();
        assert_eq!(orders.len(), 6919);
        let first =
            Order { order_no: 1, customer_id: 4, ordered_on: "1997-01-01".into(), quantity: 2, amount_cents: 2933 };
        assert_eq!(orders[0], first);
    }

    #[test]
    fn every_complaint_names_its_line() {
        assert_eq!(
            complaint("1,4,1997-01-01,2,29.33\n2,x,1997-01-01,2,1"),
            "line 3: customer_id `x` is no whole number"
        );
        assert_eq!(complaint("1,4,1997-01-01,0,29.33"), "line 2: quantity `0` is out of range");
        assert_eq!(complaint("1,4,1.1.1997,2,29.33"), "line 2: ordered_on `1.1.1997` is no date like 1997-01-31");
        assert_eq!(complaint("1,4,1997-01-01,2,cheap"), "line 2: amount `cheap` is no amount like 29.33");
        assert_eq!(complaint("7,4,1997-01-01,2,1\n7,4,1997-01-02,2,1"), "line 3: order number 7 is already in line 2");
        assert!(complaint("1,4,1997-01-01,2").contains("line: 2"));
        assert_eq!(complaint(""), "there are no orders in it");
    }

    #[test]
    fn a_foreign_header_is_refused() {
        let error = parse("a,b\n1,2\n".as_bytes()).unwrap_err().to_string();
        assert_eq!(error, "line 1: expected the header `order_no,customer_id,ordered_on,quantity,amount`");
    }

    #[test]
    fn money_is_read_exactly() {
        assert_eq!(cents("29.33"), Some(2933));
        assert_eq!(cents("29.3"), Some(2930));
        assert_eq!(cents("29"), Some(2900));
        assert_eq!(cents("0.00"), Some(0));
        for wrong in ["", ".5", "-1", "1.234", "1e3", "1,50", "92233720368547758.08"] {
            assert_eq!(cents(wrong), None, "{wrong}");
        }
    }
}
