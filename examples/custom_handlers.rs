//! A flowrun of one's own: a handler, its undo, and every verb of the command line.
//!
//! `cargo run --example custom_handlers -- exec examples/custom.yaml --input input.json`

use std::collections::BTreeMap;
use std::sync::Mutex;

use flowrun::{Registry, State, StepCtx, StepError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The outside system: here a book in memory, elsewhere the client of a service.
#[derive(Default)]
struct Hotel(Mutex<BTreeMap<String, Booking>>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct Booking {
    /// The number of the booking.
    booking: String,
    /// The room.
    room: String,
}

#[derive(Deserialize, JsonSchema)]
struct Book {
    /// The room that is wanted.
    room: String,
    /// For how many nights.
    nights: u32,
}

/// Books a room. A second call with the same key finds the first one's booking: that makes it `keyed`.
async fn book(ctx: StepCtx, State(hotel): State<Hotel>, input: Book) -> Result<Booking, StepError> {
    let mut bookings = hotel.0.lock().map_err(|_| StepError::unknown("hotel.broken", "the book is torn"))?;
    if let Some(known) = bookings.get(&*ctx.key) {
        return Ok(known.clone());
    }
    if bookings.values().any(|b| b.room == input.room) {
        let message = format!("room {} is taken for {} nights", input.room, input.nights);
        return Err(StepError::permanent("hotel.taken", message));
    }
    let booking = Booking { booking: format!("B-{}", &ctx.key[..8]), room: input.room };
    bookings.insert(ctx.key.to_string(), booking.clone());
    Ok(booking)
}

#[derive(Deserialize, JsonSchema)]
struct Cancel {
    /// The idempotency key of the booking.
    key: String,
}

/// Takes a booking back. That there is none is fine: then there is nothing to take back.
async fn cancel(_: StepCtx, State(hotel): State<Hotel>, input: Cancel) -> Result<bool, StepError> {
    let mut bookings = hotel.0.lock().map_err(|_| StepError::unknown("hotel.broken", "the book is torn"))?;
    Ok(bookings.remove(&input.key).is_some())
}

fn registry() -> Registry {
    Registry::new()
        .state(Hotel::default())
        .handler("hotel.book", book)
        .describe("Books a room.")
        .effect("booked")
        .keyed()
        .retryable(["hotel.busy"])
        .permanent(["hotel.taken"])
        .handler("hotel.cancel", cancel)
        .describe("Takes a booking back.")
        .undoes("booked", "released")
        .keyed()
        .if_absent_ok()
}

fn main() -> std::process::ExitCode {
    flowrun::cli(registry())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flowrun::testing::Testing;
    use flowrun::time::SystemClock;
    use serde_json::json;

    use super::*;

    fn ctx(key: &str) -> StepCtx {
        StepCtx::new("book", key, Arc::new(SystemClock))
    }

    fn wanted() -> Book {
        Book { room: "blue".into(), nights: 2 }
    }

    #[test]
    fn the_registry_fits_together() {
        assert!(registry().finish().is_ok());
    }

    #[test]
    fn a_trip_survives() {
        let fails = json!({ "room": "blue", "nights": 2, "fail": true });
        for input in [json!({ "room": "blue", "nights": 2 }), fails] {
            let report = Testing::new(registry)
                .workflow("examples/custom.yaml")
                .input(input)
                .everything()
                .check(|run| {
                    let hotel = run.state::<Hotel>().ok_or("there is no hotel")?;
                    let booked = hotel.0.lock().map_err(|_| "the book is torn")?.len();
                    let expected = usize::from(run.report.status == "completed" || !run.report.owed.is_empty());
                    if booked == expected { Ok(()) } else { Err(format!("{booked} rooms booked, not {expected}")) }
                })
                .run()
                .expect("the workflow is valid")
                .assert();
            println!("{report}");
        }
    }

    #[tokio::test]
    async fn one_key_books_once_and_is_undone() {
        let hotel = State(Arc::new(Hotel::default()));
        let first = book(ctx("key-of-one-call"), hotel.clone(), wanted()).await.expect("the room is free");
        let again = book(ctx("key-of-one-call"), hotel.clone(), wanted()).await.expect("it is the same call");
        assert_eq!(first, again);
        let other = book(ctx("key-of-another"), hotel.clone(), wanted()).await;
        assert!(other.is_err(), "the room is taken");

        let undo = || Cancel { key: "key-of-one-call".into() };
        assert!(cancel(ctx("u"), hotel.clone(), undo()).await.expect("there is a booking"));
        assert!(!cancel(ctx("u"), hotel.clone(), undo()).await.expect("nothing to undo is fine"));
        assert!(book(ctx("key-of-another"), hotel, wanted()).await.is_ok(), "the room is free again");
    }
}
