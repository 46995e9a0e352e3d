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
use utoipa_axum::router::OpenApiRouter;

use super::error::ErrorBody;
use crate::model::admin::Role;

/// The security scheme's name in the description.
const TOKEN: &str = "token";

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

/// Adds what calls have in common that ask for a token of a role.
pub fn ask_for_token<S>(mut routes: OpenApiRouter<S>, role: Role) -> OpenApiRouter<S>
where
    S: Send + Sync + Clone + 'static,
{
    for item in routes.get_openapi_mut().paths.paths.values_mut() {
        for operation in operations(item) {
            operation.security = Some(vec![SecurityRequirement::new(TOKEN, [role.as_str()])]);
            let responses = &mut operation.responses.responses;
            let mut answer = |status: &str, what| responses.insert(status.to_owned(), error(what));
            answer("401", "No token, one that is not known, or one whose time is over.");
            if role == Role::Write {
                answer("403", "The token's role is `read`.");
            }
            answer("default", "Any other error, by its code.");
        }
    }
    routes
}

/// Adds what calls have in common that stands apart from them: the token, and the form of errors.
pub fn complete(mut description: OpenApi) -> OpenApi {
    let components = description.components.get_or_insert_default();
    let what = "A token of the admin API; what a call asks for is the role that it must have.";
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(what)).build();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
    let mut schemas = vec![(ErrorBody::name().into_owned(), ErrorBody::schema())];
    ErrorBody::schemas(&mut schemas);
    components.schemas.extend(schemas);
    description
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let methods = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
    methods.into_iter().flatten()
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
