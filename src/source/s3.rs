//! S3 as a source, through aws-sdk-s3.
