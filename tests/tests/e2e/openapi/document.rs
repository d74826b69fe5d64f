//! An OpenAPI document, and answers held against it.

use std::collections::BTreeSet;

use boon::{Compiler, Schemas};
use serde_json::{Value, json};
use tocyn_e2e::raw_http::{Answer, exchange, request};

const URN: &str = "urn:tocyn:problem:";
/// Where the document is as a JSON schema of many parts.
const PLACE: &str = "mem:///openapi.json";

/// A document that a service serves, and what of it was seen.
pub(super) struct Document {
    root: Value,
    schemas: Schemas,
    compiler: Compiler,
    seen: BTreeSet<String>,
}

impl Document {
    /// Asks a service for it.
    pub(super) fn of(address: &str) -> Self {
        let answer = exchange(address, &request("GET", "/openapi.json", &[], b""));
        let root: Value = serde_json::from_str(&answer.body).expect("the document is JSON");
        let mut compiler = Compiler::new();
        compiler.set_default_draft(boon::Draft::V2020_12);
        compiler.add_resource(PLACE, root.clone()).expect("the document can be referred to");
        let mut this = Self { root, schemas: Schemas::new(), compiler, seen: BTreeSet::new() };
        this.check("GET", "/openapi.json", &answer);
        this
    }

    /// Sends a request, and holds the answer against the document.
    pub(super) fn ask(
        &mut self,
        address: &str,
        (method, path): (&str, &str),
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let answer = exchange(address, &request(method, target, headers, body));
        self.check(method, path, &answer);
        answer
    }

    /// Holds an answer to a request for a path of the document against it.
    ///
    /// # Panics
    /// If its status, a header, the media type or the body is not as described.
    pub(super) fn check(&mut self, method: &str, path: &str, answer: &Answer) {
        let at = path.replace('~', "~0").replace('/', "~1");
        let lower = method.to_lowercase();
        self.check_at(&format!("/paths/{at}/{lower}/responses/{}", answer.status), answer);
        self.seen.insert(format!("{method} {path} {}", answer.status));
    }

    /// Successes that are described and never came.
    pub(super) fn unseen_successes(&self) -> Vec<String> {
        let mut described = Vec::new();
        for (path, item) in self.root["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("a path item") {
                let statuses = operation["responses"].as_object().expect("responses").keys();
                let good = statuses.filter(|status| status.starts_with('2'));
                described.extend(good.map(|s| format!("{} {path} {s}", method.to_uppercase())));
            }
        }
        described.retain(|what| !self.seen.contains(what));
        described
    }

    /// The same where the response has a name: what all paths have in common.
    pub(super) fn check_at(&mut self, pointer: &str, answer: &Answer) {
        let at = self.followed(pointer);
        let found = self.root.pointer(&at);
        let response = found.unwrap_or_else(|| panic!("{pointer} is not described: {answer:?}"));
        let response = response.clone();
        let named = |headers: &Value| headers.as_object().cloned().unwrap_or_default();
        for (name, _) in named(&response["headers"]) {
            let at = self.followed(&format!("{at}/headers/{name}"));
            match answer.header(&name.to_lowercase()) {
                Some(text) => {
                    let is_number =
                        self.root.pointer(&format!("{at}/schema/type")) == Some(&json!("integer"));
                    let value = match is_number {
                        true => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
                        false => json!(text),
                    };
                    self.validate(&format!("{at}/schema"), &value);
                }
                None => {
                    let required = self.root.pointer(&format!("{at}/required"));
                    assert_ne!(required, Some(&json!(true)), "{pointer}: no {name}: {answer:?}");
                }
            }
        }
        let media_type = answer.header("content-type").unwrap_or_default();
        let content = response["content"].get(media_type);
        let content = content.unwrap_or_else(|| panic!("{pointer}: {media_type}: {answer:?}"));
        if content.get("schema").is_some() {
            let body = match media_type.contains("json") || media_type.contains("directory") {
                true => serde_json::from_str(&answer.body).expect("the body is JSON"),
                false => json!(answer.body),
            };
            let media_type = media_type.replace('/', "~1");
            self.validate(&format!("{at}/content/{media_type}/schema"), &body);
            if let Some(urn) = body["type"].as_str() {
                assert_eq!(body["status"], answer.status, "{answer:?}");
                self.seen.insert(urn.to_owned());
            }
        }
    }

    /// The place that a pointer leads to, after the `$ref` that may be there.
    fn followed(&self, pointer: &str) -> String {
        let target = self.root.pointer(&format!("{pointer}/$ref")).and_then(Value::as_str);
        target.and_then(|target| target.strip_prefix('#')).unwrap_or(pointer).to_owned()
    }

    fn validate(&mut self, pointer: &str, value: &Value) {
        // The fragment of a URL has no braces.
        let fragment = pointer.replace('{', "%7B").replace('}', "%7D");
        let schema = self.compiler.compile(&format!("{PLACE}#{fragment}"), &mut self.schemas);
        let schema = schema.unwrap_or_else(|error| panic!("{pointer}: {error:#}"));
        let result = self.schemas.validate(value, schema);
        result.unwrap_or_else(|error| panic!("{pointer}: {error:#}: {value:#}"));
    }

    /// Every path with the methods that it takes, HEAD beside GET.
    pub(super) fn methods(&self) -> Vec<(String, BTreeSet<String>)> {
        let paths = self.root["paths"].as_object().expect("paths");
        let methods = |item: &Value| {
            let names = item.as_object().expect("a path item").keys();
            let mut names: BTreeSet<String> = names.map(|name| name.to_uppercase()).collect();
            if names.contains("GET") {
                names.insert("HEAD".to_owned());
            }
            names
        };
        paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect()
    }

    /// The names of all problems that are described.
    pub(super) fn problems(&self) -> BTreeSet<String> {
        fn collect(value: &Value, into: &mut BTreeSet<String>) {
            match value {
                Value::String(text) => {
                    into.extend(text.strip_prefix(URN).map(str::to_owned));
                }
                Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
                Value::Object(map) => map.values().for_each(|value| collect(value, into)),
                _ => {}
            }
        }
        let mut names = BTreeSet::new();
        collect(&self.root, &mut names);
        names
    }

    /// The names of all problems that came.
    pub(super) fn seen_problems(&self) -> BTreeSet<String> {
        self.seen.iter().filter_map(|seen| seen.strip_prefix(URN)).map(str::to_owned).collect()
    }
}
