//! Writes of items over HTTP: understand the request, run it, answer, with no thread that waits for the disk.
//!
//! Owns the way of a write from its request to its answer, and which requests go it. What is written is the business of
//! `items` and `batch`, how it is run that of `run`.

use std::sync::Arc;

use http::Method;

use crate::as_of;
use crate::batch;
use crate::catalog::Container;
use crate::headers::{self, Headers};
use crate::items;
use crate::rid::DocumentRid;
use crate::routes::{Part, Route};
use crate::run::{Mode, Run, SMALL_BODY_BYTES};
use crate::service::{Reply, Request, Service};
use crate::status::{ApiError, Kind};
use crate::threads::Threads;

/// Whether a request writes items, one or many.
pub(crate) fn is_one(request: &Request) -> bool {
    let Route::Container(_, part) = &request.route else { return false };
    let headers = Headers(&request.parts.headers);
    match part {
        Part::Items => request.parts.method == Method::POST && !headers.is_query_plan() && !headers.is_query(),
        Part::Item(_) => matches!(request.parts.method, Method::PUT | Method::PATCH | Method::DELETE),
        _ => false,
    }
}

/// Answers a write.
pub(crate) async fn answer(service: &Arc<Service>, judges: &Threads, request: &Arc<Request>) -> Reply {
    let reply = carry_out(service, judges, request).await.unwrap_or_else(Reply::from);
    service.finish(&request.parts, reply)
}

async fn carry_out(service: &Arc<Service>, judges: &Threads, request: &Arc<Request>) -> Result<Reply, ApiError> {
    let headers = Headers(&request.parts.headers);
    let container = service.container_of(&request.route, headers)?;
    let reply = write(service, judges, &container, request).await;
    let reply = reply.or_else(|error| service.about_container(&container, headers, error))?;
    Ok(reply.placed(&container, headers.range_number(&container)))
}

async fn write(
    service: &Arc<Service>,
    judges: &Threads,
    container: &Arc<Container>,
    request: &Arc<Request>,
) -> Result<Reply, ApiError> {
    let headers = Headers(&request.parts.headers);
    let run = if is_light(request) {
        prepare(service, container, request)?
    } else {
        let (service, container, request) = (Arc::clone(service), Arc::clone(container), Arc::clone(request));
        judges.run(move || prepare(&service, &container, &request)).await??
    };
    let ran = run.run(judges).await?;
    if ran.recalled {
        service.metrics.recalled();
    }
    if is_batch(request) {
        batch::answer(service, container, headers, ran)
    } else {
        items::written(service, container, headers, ran)
    }
}

fn is_batch(request: &Request) -> bool {
    matches!(request.route, Route::Container(_, Part::Items)) && Headers(&request.parts.headers).is_batch()
}

/// Whether a request is soon understood, without the store: one item, not a large one, and not addressed by a rid, which
/// takes a search.
fn is_light(request: &Request) -> bool {
    let by_rid = matches!(&request.route, Route::Container(_, Part::Item(id)) if DocumentRid::read(id).is_some());
    request.body.len() <= SMALL_BODY_BYTES && !by_rid && !is_batch(request)
}

/// What a request wants done.
fn prepare(service: &Service, container: &Arc<Container>, request: &Request) -> Result<Run, ApiError> {
    let Request { route, parts, body } = request;
    let (headers, method) = (Headers(&parts.headers), &parts.method);
    as_of::refuse(headers, "writes, change feeds and lists")?;
    let Route::Container(_, part) = route else { return Err(no_write()) };
    let guard = service.guard(container, method, part, headers, body)?;
    let (operations, mode) = match (part, method) {
        (Part::Items, _) if headers.is_batch() => batch::prepare(service, container, headers, body)?,
        (Part::Items, _) => one(service, headers, items::create(container, headers, body)?)?,
        (Part::Item(id), &Method::PUT) => {
            one(service, headers, items::replace(service, container, id, headers, body)?)?
        }
        (Part::Item(id), &Method::PATCH) => {
            one(service, headers, items::patch(service, container, id, headers, body)?)?
        }
        (Part::Item(id), &Method::DELETE) => one(service, headers, items::delete(service, container, id, headers)?)?,
        _ => return Err(headers::wrong_method(method, "GET, PUT, PATCH, DELETE")),
    };
    Ok(Run {
        store: service.store.clone(),
        container: Arc::clone(container),
        operations,
        mode,
        guard: guard.map(Arc::new),
    })
}

type Operations = Vec<Result<crate::operations::Operation, ApiError>>;

fn one(
    service: &Service,
    headers: Headers<'_>,
    operation: crate::operations::Operation,
) -> Result<(Operations, Mode), ApiError> {
    Ok((vec![Ok(items::conditioned(service, headers, operation)?)], Mode::AllOrNothing))
}

fn no_write() -> ApiError {
    ApiError::new(Kind::InternalServerError, "something else was taken for a write of items")
}
