//! Errors, in the words and the shape of each service.

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::faults::Fault;
use crate::identity::Rejection;
use crate::op::Service;
use crate::reply::{Reply, reply};
use crate::xml::Xml;

/// An error answer before it takes the shape of a protocol.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub status: u16,
    pub code: String,
    pub message: String,
    /// More elements of the error document, S3 only.
    pub details: Vec<(String, String)>,
    /// More headers.
    pub headers: Vec<(String, String)>,
}

/// Names that identify one answer in the services' logs.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    pub request: String,
    pub host: String,
}

impl Failure {
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Failure {
        Failure {
            status: status.as_u16(),
            code: code.to_owned(),
            message: message.into(),
            details: Vec::new(),
            headers: Vec::new(),
        }
    }

    pub fn bad_request(code: &str, message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub fn forbidden(code: &str, message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::FORBIDDEN, code, message)
    }

    /// S3 says no more than this, whatever was missing.
    pub fn access_denied() -> Failure {
        Failure::forbidden("AccessDenied", "Access Denied")
    }

    /// What S3 has come to say when the key is what is denied; see also [`Fault::KmsDenied`].
    pub fn decrypt_denied(caller: &str, key_arn: &str) -> Failure {
        let message = format!(
            "User: {caller} is not authorized to perform: kms:Decrypt on resource: {key_arn} because no \
             identity-based policy allows the kms:Decrypt action"
        );
        Failure::forbidden("AccessDenied", message)
    }

    pub fn validation(message: impl Into<String>) -> Failure {
        Failure::bad_request("ValidationError", message)
    }

    pub fn detail(mut self, name: &str, value: impl Into<String>) -> Failure {
        self.details.push((name.to_owned(), value.into()));
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Failure {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Why credentials are not accepted, in the words of the service that was asked.
    pub fn rejected(why: Rejection, service: Service, key_id: &str) -> Failure {
        match (service, why) {
            (Service::S3, Rejection::UnknownKey) => {
                let message = "The AWS Access Key Id you provided does not exist in our records.";
                Failure::forbidden("InvalidAccessKeyId", message).detail("AWSAccessKeyId", key_id)
            }
            (Service::S3, Rejection::BadToken) => {
                Failure::bad_request("InvalidToken", "The provided token is malformed or otherwise invalid.")
            }
            (Service::S3, Rejection::ExpiredToken) => {
                Failure::bad_request("ExpiredToken", "The provided token has expired.")
            }
            (Service::Sts, Rejection::UnknownKey | Rejection::BadToken) => {
                Failure::forbidden("InvalidClientTokenId", INVALID_TOKEN)
            }
            (Service::Sts, Rejection::ExpiredToken) => Failure::forbidden("ExpiredTokenException", EXPIRED_TOKEN),
            (Service::CloudTrail, Rejection::UnknownKey | Rejection::BadToken) => {
                Failure::bad_request("UnrecognizedClientException", INVALID_TOKEN)
            }
            (Service::CloudTrail, Rejection::ExpiredToken) => {
                Failure::bad_request("ExpiredTokenException", EXPIRED_TOKEN)
            }
        }
    }

    pub fn bad_signature(service: Service) -> Failure {
        let message = "The request signature we calculated does not match the signature you provided. Check your key and signing method.";
        match service {
            Service::CloudTrail => Failure::bad_request("InvalidSignatureException", message),
            _ => Failure::forbidden("SignatureDoesNotMatch", message),
        }
    }

    /// The error that a fault stands for, if it stands for one.
    pub fn from_fault(fault: &Fault, service: Service) -> Option<Failure> {
        use StatusCode as Status;
        Some(match fault {
            Fault::InternalError => match service {
                Service::S3 => Failure::new(
                    Status::INTERNAL_SERVER_ERROR,
                    "InternalError",
                    "We encountered an internal error. Please try again.",
                ),
                _ => Failure::new(Status::INTERNAL_SERVER_ERROR, "InternalFailure", "Internal failure"),
            },
            Fault::SlowDown => {
                Failure::new(Status::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate.")
            }
            Fault::ServiceUnavailable | Fault::StsUnavailable => Failure::new(
                Status::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "Service is unable to handle request.",
            ),
            Fault::StsThrottling => Failure::bad_request("Throttling", "Rate exceeded"),
            Fault::RequestTimeout => Failure::bad_request(
                "RequestTimeout",
                "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed.",
            ),
            Fault::AccessDenied | Fault::KmsDenied => Failure::access_denied(),
            Fault::KmsDisabled => {
                Failure::bad_request("KMS.DisabledException", "The KMS key of this object is disabled.")
            }
            Fault::Refusal { status, code } => {
                Failure { status: *status, ..Failure::bad_request(code, "A fault refuses this request.") }
            }
            Fault::ConditionalConflict => Failure::new(
                Status::CONFLICT,
                "ConditionalRequestConflict",
                "The conditional request cannot succeed due to a conflicting operation against this resource.",
            ),
            Fault::InvalidObjectState => Failure::archived("GLACIER"),
            Fault::NoSuchKey => Failure::no_such_key(""),
            Fault::PreconditionFailed => Failure::precondition("If-Match"),
            Fault::ExpiredToken => Failure::rejected(Rejection::ExpiredToken, service, ""),
            Fault::InvalidToken => Failure::rejected(Rejection::BadToken, service, ""),
            Fault::Redirect307 { to } => Failure::new(
                Status::TEMPORARY_REDIRECT,
                "TemporaryRedirect",
                "Please re-send this request to the specified temporary endpoint. Continue to use the original request endpoint for future requests.",
            )
            .header("location", to),
            Fault::RegionDisabled => Failure::forbidden(
                "RegionDisabledException",
                "STS is not activated in this region for this account. Your account administrator can activate STS in this region using the IAM Console.",
            ),
            _ => return None,
        })
    }

    pub fn no_such_key(key: &str) -> Failure {
        let message = "The specified key does not exist.";
        Failure::new(StatusCode::NOT_FOUND, "NoSuchKey", message).detail("Key", key)
    }

    pub fn no_such_bucket(bucket: &str) -> Failure {
        let message = "The specified bucket does not exist";
        Failure::new(StatusCode::NOT_FOUND, "NoSuchBucket", message).detail("BucketName", bucket)
    }

    pub fn archived(storage_class: &str) -> Failure {
        let message = "The operation is not valid for the object's storage class";
        Failure::forbidden("InvalidObjectState", message).detail("StorageClass", storage_class)
    }

    pub fn precondition(condition: &str) -> Failure {
        let message = "At least one of the pre-conditions you specified did not hold";
        Failure::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message).detail("Condition", condition)
    }

    /// Renders the answer in the protocol of `service`.
    pub fn reply(&self, service: Service, resource: &str, ids: &Ids) -> Reply {
        let (body, content_type) = match service {
            Service::S3 => (self.s3_document(resource, ids), "application/xml"),
            Service::Sts => (self.sts_document(ids), "text/xml"),
            Service::CloudTrail => (self.json_document(), "application/x-amz-json-1.1"),
        };
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = reply(status, body);
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        add_headers(headers, &self.headers);
        answer
    }

    fn s3_document(&self, resource: &str, ids: &Ids) -> String {
        let mut xml = Xml::document();
        xml.open("Error").text("Code", &self.code).text("Message", &self.message);
        for (name, value) in &self.details {
            xml.text(name, value);
        }
        xml.text("Resource", resource).text("RequestId", &ids.request).text("HostId", &ids.host).close("Error").finish()
    }

    fn sts_document(&self, ids: &Ids) -> String {
        let fault = if self.status < 500 { "Sender" } else { "Receiver" };
        Xml::fragment()
            .open_in("ErrorResponse", crate::sts::NAMESPACE)
            .open("Error")
            .text("Type", fault)
            .text("Code", &self.code)
            .text("Message", &self.message)
            .close("Error")
            .text("RequestId", &ids.request)
            .close("ErrorResponse")
            .finish()
    }

    fn json_document(&self) -> String {
        serde_json::json!({"__type": self.code, "message": self.message}).to_string()
    }
}

const INVALID_TOKEN: &str = "The security token included in the request is invalid.";
const EXPIRED_TOKEN: &str = "The security token included in the request is expired";

fn add_headers(headers: &mut HeaderMap, more: &[(String, String)]) {
    for (name, value) in more {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
}
