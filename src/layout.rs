//! How each log service names its objects: where to look, from which key on.
