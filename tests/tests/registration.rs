//! Tasks make themselves known to the program they are linked into, whichever way they are collected: by inventory, or
//! by linkme with the cargo feature of that name.
#![cfg(feature = "sqlite")]

use consistency_diesel::builder::OutboxBuilder;
use consistency_diesel::prelude::*;

#[consistency_task(name = "registration.function", alias = "registration.former")]
fn function() {}

#[consistency_task(name = "registration.future")]
async fn future() {}

mod inner {
    use super::consistency_task;

    /// Its name is that of its place.
    #[consistency_task]
    fn of_a_module() {}
}

struct Desk;

#[consistency_task]
impl Desk {
    #[consistency_task(name = "registration.associated")]
    fn associated() {}
}

macro_rules! stamp {
    ($name:literal, $function:ident) => {
        #[consistency_task(name = $name)]
        fn $function() {}
    };
}
stamp!("registration.stamped.one", one);
stamp!("registration.stamped.two", two);

#[cfg(any())]
#[consistency_task(name = "registration.absent")]
fn absent() {}

/// Every task of this program; there are no others.
const NAMES: [&str; 7] = [
    "registration.associated",
    "registration.function",
    "registration.future",
    "registration.in_a_function",
    "registration.stamped.one",
    "registration.stamped.two",
    "registration::inner::of_a_module",
];

/// `check` opens nothing: no such file comes to be.
fn builder() -> OutboxBuilder {
    Outbox::builder("sqlite://registration.db")
}

#[test]
fn every_task_of_the_program_is_found_without_being_named() {
    // Registered like any other, although nobody outside can name it.
    #[consistency_task(name = "registration.in_a_function")]
    fn in_a_function() {}

    builder().expect_tasks(NAMES).expect_tasks(["registration.former"]).check().unwrap();
}

#[test]
fn a_task_that_is_not_compiled_is_not_found() {
    let error = builder().expect_tasks(["registration.absent"]).check().unwrap_err();
    assert!(error.to_string().contains("registration.absent"), "{error}");
    assert_eq!(error.problems().len(), 1);
}

#[test]
fn a_task_registered_by_hand_too_is_no_duplicate() {
    builder().register::<function>().register::<future>().check().unwrap();
}

/// The list is a section of the program, complete when it is linked: no task needs code before `main`.
#[cfg(feature = "linkme")]
#[test]
fn with_linkme_the_section_itself_holds_them_all() {
    use consistency_core::__private::CONSISTENCY_REGISTRATIONS;

    let mut names: Vec<&str> = CONSISTENCY_REGISTRATIONS.iter().map(|registration| registration.0.name).collect();
    names.sort_unstable();
    assert_eq!(names, NAMES);
}
