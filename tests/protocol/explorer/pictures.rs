//! The README's pictures, from a store that is like one in use. Where `ETAGDB_PICTURES` names a folder they are put there
//! (`make explorer-screenshots`); else each is taken all the same, and thrown away.

use serde_json::{Value, json};

use super::browser::with_browser;
use crate::support::{Client, Host};

fn upsert(client: &mut Client, container: &str, key: &str, item: &Value) {
    let key = json!([item[key]]).to_string();
    let headers = [("x-ms-documentdb-partitionkey", key.as_str()), ("x-ms-documentdb-is-upsert", "true")];
    let answer = client.post(&format!("/dbs/shop/colls/{container}/docs"), &headers, item);
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
}

/// A shop: containers of different sizes, and a cart with a past.
fn furnish(client: &mut Client) {
    client.post("/dbs", &[], &json!({"id": "shop"})).expect_status(201);
    for (container, key) in [("carts", "/customer"), ("products", "/category"), ("orders", "/customer")] {
        let definition = json!({"id": container, "partitionKey": {"paths": [key], "kind": "Hash", "version": 2}});
        client.post("/dbs/shop/colls", &[], &definition).expect_status(201);
    }
    for number in 0..240u32 {
        let category = ["kitchen", "office", "outdoor"][number as usize % 3];
        let name = ["Espresso cup", "Desk lamp", "Rain jacket", "Linen apron", "Notebook", "Trail bottle"]
            [number as usize % 6];
        let price = f64::from(900 + number * 37 % 9000) / 100.0;
        let item = json!({"id": format!("sku-{}", 1000 + number), "category": category, "name": name, "price": price, "stock": number * 7 % 90});
        upsert(client, "products", "category", &item);
    }
    let customers = ["ana", "ben", "chloe", "dmitri", "elif", "fatima"];
    for number in 0..60usize {
        let customer = customers[number % customers.len()];
        let item = json!({"id": format!("cart-{:03}", number + 100), "customer": customer, "status": "open", "items": [{"sku": format!("sku-{}", 1000 + number), "qty": 1 + number % 3}], "total": number * 13 % 170});
        upsert(client, "carts", "customer", &item);
    }
    let mut cart = json!({"id": "cart-007", "customer": "ana", "status": "open", "items": [{"sku": "sku-1003", "qty": 1}],
        "shipping": {"method": "standard", "address": {"street": "Rua Augusta 12", "city": "Lisboa", "zip": "1100-048"}}, "total": 34.0, "currency": "EUR"});
    upsert(client, "carts", "customer", &cart);
    cart["items"] = json!([{"sku": "sku-1003", "qty": 1}, {"sku": "sku-1010", "qty": 2}]);
    cart["total"] = json!(71.8);
    upsert(client, "carts", "customer", &cart);
    cart["shipping"]["method"] = json!("express");
    cart["total"] = json!(79.8);
    upsert(client, "carts", "customer", &cart);
    let key = [("x-ms-documentdb-partitionkey", "[\"ana\"]")];
    client.delete("/dbs/shop/colls/carts/docs/cart-007", &key).expect_status(204);
    upsert(client, "carts", "customer", &cart);
    cart["status"] = json!("paid");
    cart["shipping"]["address"]["street"] = json!("Rua Augusta 14");
    cart["note"] = json!("leave with the neighbour");
    upsert(client, "carts", "customer", &cart);
}

#[test]
fn the_pictures_of_the_readme() {
    let host = Host::start();
    let mut client = host.connect();
    furnish(&mut client);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let folder =
        std::env::var_os("ETAGDB_PICTURES").map_or_else(|| scratch.path().to_owned(), std::path::PathBuf::from);
    std::fs::create_dir_all(&folder).expect("a folder for the pictures");
    let cart = "%5B%22ana%22%5D/cart-007";
    with_browser(host.address(), |browser| {
        let picture = |name: &str| {
            browser.picture(&folder.join(format!("{name}.png")));
        };
        browser.prefer("light");
        browser.open("#/db/shop/products");
        browser.until("document.querySelectorAll('.list tbody tr').length === 100");
        browser.until_text(".about", "240 documents");
        picture("documents");

        browser.open(&format!("#/db/shop/carts/doc/{cart}"));
        browser.until_text(".timeline", "created again");
        browser.until_text(".timeline", "shipping.method");
        browser.until("document.querySelector('.diff mark')");
        picture("versions");

        browser.open(&format!("#/db/shop/carts/edit/{cart}"));
        browser.edit("\"paid\"", "\"cancelled\"");
        browser.edit("\"EUR\"", "\"EUR\", \"refund\": true");
        let mut theirs =
            client.get("/dbs/shop/colls/carts/docs/cart-007", &[("x-ms-documentdb-partitionkey", "[\"ana\"]")]).json();
        theirs["status"] = json!("shipped");
        theirs["shipping"]["method"] = json!("courier");
        upsert(&mut client, "carts", "customer", &theirs);
        browser.click("Save");
        browser.until("document.querySelector('.three tr.clash')");
        picture("conflict");
        browser.click("Take theirs, discard mine");

        browser.prefer("dark");
        browser.open("#/db/shop/carts/feed");
        browser.until("document.querySelector('.live.on')");
        browser.run("const since = document.querySelector('select[aria-label=\"Where to begin\"]'); since.value = '100'; since.dispatchEvent(new Event('change'))");
        browser.until_text(".feed", "shipping.method");
        picture("feed");

        browser.open("");
        browser.until_text("h1", "Dashboard");
        // Some load for as long as it takes to draw a line of it.
        let stale = [("x-ms-documentdb-partitionkey", "[\"ana\"]"), ("if-match", "\"stale\"")];
        let line = "document.querySelector('svg.c1 .line')?.getAttribute('points').split(' ').length > 14";
        for round in 0u32.. {
            for number in 0..20 {
                upsert(
                    &mut client,
                    "orders",
                    "customer",
                    &json!({"id": format!("order-{}", number * round % 90), "customer": "ana", "total": round}),
                );
                let id = ["cart-007", "cart-100", "cart-007", "cart-106"][number as usize % 4];
                client
                    .put(&format!("/dbs/shop/colls/carts/docs/{id}"), &stale, &json!({"id": id, "customer": "ana"}))
                    .expect_status(412);
            }
            if browser.run(&format!("return {line}")) == json!(true) {
                break;
            }
        }
        browser.until_text(".card", "cart-007");
        picture("dashboard");
    });
}
