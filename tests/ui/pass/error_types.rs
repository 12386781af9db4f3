//! Any error a function may return.
#![deny(warnings)]

use std::error::Error;
use std::fmt;

use consistency_diesel::prelude::*;

#[derive(Debug)]
struct Own;
impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("own")
    }
}
impl Error for Own {}

#[derive(Debug)]
struct OnlyShown;
impl fmt::Display for OnlyShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("only shown")
    }
}

type Result<T = (), E = Own> = std::result::Result<T, E>;

#[consistency_task]
fn aliased() -> Result {
    Err(Own)
}

#[consistency_task]
async fn by_anyhow() -> anyhow::Result<u8> {
    Ok(1)
}

#[consistency_task]
fn by_eyre() -> eyre::Result<()> {
    Ok(())
}

#[consistency_task]
async fn by_box() -> std::result::Result<(), Box<dyn Error>> {
    std::future::ready(()).await;
    Err("x".into())
}

#[consistency_task]
fn by_send_box() -> std::result::Result<(), Box<dyn Error + Send + Sync>> {
    Ok(())
}

#[consistency_task]
fn by_string() -> std::result::Result<(), String> {
    Ok(())
}

#[consistency_task]
fn by_str(text: &str) -> std::result::Result<&str, &'static str> {
    Ok(text)
}

#[consistency_task]
fn only_shown() -> std::result::Result<(), OnlyShown> {
    Err(OnlyShown)
}

#[consistency_task]
async fn unit() {}

#[consistency_task]
fn own_word() -> std::result::Result<(), TaskError> {
    Err(TaskError::permanent("no"))
}

fn main() {
    drop((aliased(), by_anyhow(), by_eyre(), by_box(), by_send_box(), by_string(), by_str("")));
    drop((only_shown(), unit(), own_word()));
}
