//! The README's embedded quick start, word for word below this line: the protocol tests compare the two and run this.

use etagdb::{Error, Precondition, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::open("shop-data")?;
    let carts = store.collection("carts")?;

    let first = carts.put("cart-1", br#"{"items":1}"#, Precondition::Any)?;

    // Replace what we wrote: only if this is still the current version. On disk when the call returns.
    let second = carts.put("cart-1", br#"{"items":2}"#, first.etag)?;
    println!("replaced, now {}", second.etag);

    // Anyone still holding the first etag lost the race, and learns who won.
    match carts.put("cart-1", br#"{"items":9}"#, first.etag) {
        Err(Error::Conflict(conflict)) => println!("refused: {conflict}"),
        other => println!("the stale write was accepted: {other:?}"),
    }
    Ok(())
}
