//! One operation of an OpenAPI document.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::http::Code;

/// Problems that the transport can answer to any request, before or instead of a route.
const ALWAYS: [Code; 5] = [Code::HeadTooLarge, Code::Internal, Code::Busy, Code::NotReady, Code::Unavailable];
/// Problems of any operation with a body.
const WITH_BODY: [Code; 4] =
    [Code::InvalidRequest, Code::Timeout, Code::TooLarge, Code::UnsupportedMediaType];

/// An operation: a method and a path.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: String,
    summary: &'static str,
    /// Replaces the component for the `{id}` in the path.
    id_parameter: Option<&'static str>,
    parameters: Vec<&'static str>,
    body: Option<Body>,
    /// The security scheme in the components.
    security: Option<&'static str>,
    anonymous: bool,
    answers: BTreeMap<u16, Option<Content>>,
    links: Vec<Link>,
    codes: Vec<Code>,
}

#[derive(Clone, Copy, Debug)]
struct Body {
    schema: &'static str,
    required: bool,
}

#[derive(Clone, Copy, Debug)]
enum Content {
    /// JSON with a schema in the components.
    Json(&'static str),
    /// Any content of these media types.
    Of(&'static [&'static str]),
}

/// A response value that is a parameter of another operation.
#[derive(Clone, Copy, Debug)]
struct Link {
    status: u16,
    /// The JSON pointer of the value in the body.
    pointer: &'static str,
    /// The id of the other operation.
    operation: &'static str,
    parameter: &'static str,
}

impl Operation {
    pub(super) fn get(path: impl Into<String>, summary: &'static str) -> Self {
        Self::new("get", path.into(), summary)
    }

    pub(super) fn post(path: impl Into<String>, summary: &'static str) -> Self {
        Self::new("post", path.into(), summary)
    }

    pub(super) fn put(path: impl Into<String>, summary: &'static str) -> Self {
        Self::new("put", path.into(), summary)
    }

    pub(super) fn patch(path: impl Into<String>, summary: &'static str) -> Self {
        Self::new("patch", path.into(), summary)
    }

    pub(super) fn delete(path: impl Into<String>, summary: &'static str) -> Self {
        Self::new("delete", path.into(), summary)
    }

    fn new(method: &'static str, path: String, summary: &'static str) -> Self {
        Self {
            method,
            path,
            summary,
            id_parameter: None,
            parameters: Vec::new(),
            body: None,
            security: None,
            anonymous: false,
            answers: BTreeMap::new(),
            links: Vec::new(),
            codes: ALWAYS.into(),
        }
    }

    /// Uses another parameter component for `{id}`. OpenAPI cannot have two paths that differ only
    /// in the names of their parameters.
    pub(super) fn opened_by(mut self, parameter: &'static str) -> Self {
        self.id_parameter = Some(parameter);
        self
    }

    /// Takes query parameters or headers, named as in the components. Adds `invalid_request`.
    pub(super) fn takes(mut self, parameters: &[&'static str]) -> Self {
        self.parameters.extend(parameters);
        self.refuses(&[Code::InvalidRequest])
    }

    /// Takes a body.
    pub(super) fn reads(mut self, schema: &'static str) -> Self {
        self.body = Some(Body { schema, required: true });
        self.refuses(&WITH_BODY)
    }

    /// Takes an optional body.
    pub(super) fn may_read(mut self, schema: &'static str) -> Self {
        self.body = Some(Body { schema, required: false });
        self.refuses(&WITH_BODY)
    }

    /// Requires credentials of this scheme.
    pub(super) fn needs(mut self, scheme: &'static str) -> Self {
        self.security = Some(scheme);
        self.refuses(&[Code::Unauthorized])
    }

    /// Accepts credentials of this scheme or an alternative to them.
    pub(super) fn may_need(mut self, scheme: &'static str) -> Self {
        self.anonymous = true;
        self.needs(scheme)
    }

    /// Answers with JSON of a schema.
    pub(super) fn answers(mut self, status: u16, schema: &'static str) -> Self {
        self.answers.insert(status, Some(Content::Json(schema)));
        self
    }

    /// Answers 200 with content of one of these media types.
    pub(super) fn answers_type(mut self, media_types: &'static [&'static str]) -> Self {
        self.answers.insert(200, Some(Content::Of(media_types)));
        self
    }

    /// Links the value at `pointer` in this response to the `parameter` of other operations.
    pub(super) fn leads_to(
        mut self,
        status: u16,
        (pointer, parameter): (&'static str, &'static str),
        operations: &[&'static str],
    ) -> Self {
        let link = |operation: &&'static str| Link { status, pointer, operation, parameter };
        self.links.extend(operations.iter().map(link));
        self
    }

    /// Answers 304 to conditional requests.
    pub(super) fn unchanged(mut self) -> Self {
        self.answers.insert(304, None);
        self
    }

    /// Adds problem codes to those that follow from the parameters, body and credentials.
    pub(super) fn refuses(mut self, codes: &[Code]) -> Self {
        self.codes.extend(codes);
        self
    }

    /// Whether it is a page; pages have several paths.
    #[cfg(test)]
    pub(super) fn is_page(&self) -> bool {
        let html = matches!(self.answers.get(&200), Some(Some(Content::Of(["text/html"]))));
        html && self.answers.contains_key(&304)
    }

    /// Builds the operation object.
    pub(super) fn describe(&self) -> Value {
        let words: Vec<_> = self.path.split('/').collect();
        let in_path = words.windows(2).filter_map(|pair| match *pair {
            [what, "{id}"] => Some(self.id_parameter.unwrap_or_else(|| one_of(what))),
            [_, word] => word.strip_prefix('{')?.strip_suffix('}'),
            _ => None,
        });
        let parameters: Vec<Value> = in_path
            .chain(self.parameters.iter().copied())
            .map(|name| reference("parameters", name))
            .collect();
        let mut operation = json!({
            "operationId": self.id(),
            "summary": self.summary,
            "parameters": parameters,
            "responses": self.responses(),
        });
        if let Some(Body { schema, required }) = self.body {
            let content = json!({ "application/json": { "schema": reference("schemas", schema) } });
            operation["requestBody"] = json!({ "required": required, "content": content });
        }
        if let Some(scheme) = self.security {
            operation["security"] =
                if self.anonymous { json!([{ scheme: [] }, {}]) } else { json!([{ scheme: [] }]) };
        }
        operation
    }

    /// Builds an operation id of letters, digits and `_`, suitable for client generators.
    fn id(&self) -> String {
        let words = self.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let id = words.fold(self.method.to_owned(), |id, word| id + "_" + word);
        if self.path.len() > 1 && self.path.ends_with('/') { id + "_" } else { id }
    }

    fn links_of(&self, status: u16) -> impl Iterator<Item = (String, Value)> {
        self.links.iter().filter(move |link| link.status == status).map(|link| {
            let parameters = json!({ link.parameter: format!("$response.body#{}", link.pointer) });
            let link_object = json!({ "operationId": link.operation, "parameters": parameters });
            (link.operation.to_owned(), link_object)
        })
    }

    fn responses(&self) -> Value {
        let mut responses = Map::new();
        for (status, content) in &self.answers {
            let mut response =
                json!({ "description": if *status == 304 { "Not modified" } else { self.summary } });
            match content {
                Some(Content::Json(schema)) => {
                    let schema = reference("schemas", schema);
                    response["content"] = json!({ "application/json": { "schema": schema } });
                }
                Some(Content::Of(media_types)) => {
                    let content = media_types.iter().map(|media_type| {
                        let kind = if *media_type == "application/json" { "object" } else { "string" };
                        ((*media_type).to_owned(), json!({ "schema": { "type": kind } }))
                    });
                    response["content"] = Value::Object(content.collect());
                }
                None => {}
            }
            response["headers"] = headers(&["x-request-id"]);
            let links: Map<String, Value> = self.links_of(*status).collect();
            if !links.is_empty() {
                response["links"] = Value::Object(links);
            }
            responses.insert(status.to_string(), response);
        }
        let mut refusals: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for code in Code::ALL.iter().filter(|code| self.codes.contains(code)) {
            refusals.entry(code.status().as_u16()).or_default().push(*code);
        }
        for (status, codes) in refusals {
            responses.insert(status.to_string(), refusal(status, &codes));
        }
        Value::Object(responses)
    }
}

/// Returns the parameter component for the id of one of `what` in a path.
fn one_of(what: &str) -> &'static str {
    match what {
        "activities" => "activity",
        "products" => "product",
        "skus" => "sku",
        "orders" => "order",
        "users" => "user",
        "dead-letters" => "dead_letter",
        "callbacks" => "callback",
        _ => unreachable!("no path has an id of {what}, as tests verify"),
    }
}

/// Builds the response to methods that a path does not have. No operation can refer to it.
pub(super) fn other_methods() -> Value {
    let mut response = refusal(405, &[Code::MethodNotAllowed]);
    response["headers"] = headers(&["x-request-id", "allow"]);
    response
}

/// Builds the response for all problems with one status.
fn refusal(status: u16, codes: &[Code]) -> Value {
    let words: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    let lines: Vec<_> = codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.title())).collect();
    let one_of = json!({ "properties": { "code": { "enum": words }, "status": { "const": status } } });
    let schema = json!({ "allOf": [reference("schemas", "Problem"), one_of] });
    let names: &[_] = match status {
        401 => &["x-request-id", "www-authenticate"],
        429 => &["x-request-id", "retry-after", "ratelimit", "ratelimit-policy"],
        503 => &["x-request-id", "retry-after"],
        _ => &["x-request-id"],
    };
    json!({
        "description": lines.join("; "),
        "headers": headers(names),
        "content": { "application/problem+json": { "schema": schema } },
    })
}

fn headers(names: &[&str]) -> Value {
    Value::Object(names.iter().map(|name| ((*name).to_owned(), reference("headers", name))).collect())
}

fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}
