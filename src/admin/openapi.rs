//! The API's description in OpenAPI 3.1, made of the routes themselves: what a route takes and
//! answers stands at its handler, and what all of them have in common is added here.

use axum::Extension;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, RefOr,
    Response as Described, ResponseBuilder,
};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::error::ErrorBody;

/// The security scheme's name in the description.
const TOKEN: &str = "token";
/// Where the paths begin that ask for the token.
const WITH_TOKEN: &str = "/api/";

/// The description, as it is sent.
#[derive(Clone)]
pub struct Description(Bytes);

impl Description {
    /// `description` as JSON.
    pub fn of(description: &OpenApi) -> Self {
        Self(json(description).into())
    }
}

/// The description as JSON.
pub fn json(description: &OpenApi) -> String {
    description.to_json().expect("texts and numbers are JSON")
}

/// This API's description in OpenAPI 3.1.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "describe", tag = "system",
    responses((status = 200, description = "This document.", body = serde_json::Value)),
)]
pub async fn openapi(Extension(Description(json)): Extension<Description>) -> Response {
    ([(CONTENT_TYPE, "application/json")], json).into_response()
}

/// A description without routes.
pub fn frame() -> OpenApi {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("postbackd admin API")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Clicks, conversions, rates and the catalog of a tracking server."))
        .license(Some(license));
    OpenApiBuilder::new().info(info).components(Some(Components::new())).build()
}

/// Adds what all calls have in common: the token, and the form of errors.
pub fn complete(mut description: OpenApi) -> OpenApi {
    let components = description.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
    let mut schemas = vec![(ErrorBody::name().into_owned(), ErrorBody::schema())];
    ErrorBody::schemas(&mut schemas);
    components.schemas.extend(schemas);
    for (path, item) in &mut description.paths.paths {
        if path.starts_with(WITH_TOKEN) {
            operations(item).for_each(ask_for_token);
        }
    }
    description
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let methods = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
    methods.into_iter().flatten()
}

fn ask_for_token(operation: &mut Operation) {
    let nothing: [&str; 0] = [];
    operation.security = Some(vec![SecurityRequirement::new(TOKEN, nothing)]);
    let responses = &mut operation.responses.responses;
    responses.insert("401".to_owned(), error("No token, or another."));
    responses.insert("default".to_owned(), error("Any other error, by its code."));
}

fn error(description: &str) -> RefOr<Described> {
    let schema = utoipa::openapi::Ref::from_schema_name(ErrorBody::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    RefOr::T(
        ResponseBuilder::new()
            .description(description)
            .content("application/json", content)
            .build(),
    )
}
