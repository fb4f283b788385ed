"""Holds the ECS documents against botocore's model of the API, enumerations included. Prints each mistake."""
import json
import sys

import botocore.session
import botocore.validate


def enums(shape, value, path):
    """botocore leaves enumerations to the service."""
    if getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{path}: {value!r} is none of {shape.enum}"
    if shape.type_name == "structure":
        for name, member in value.items():
            if name in shape.members:
                yield from enums(shape.members[name], member, f"{path}.{name}")
    elif shape.type_name == "list":
        for at, member in enumerate(value):
            yield from enums(shape.member, member, f"{path}[{at}]")


ecs = botocore.session.get_session().get_service_model("ecs")
mistakes = []
for operation, path in zip(sys.argv[1::2], sys.argv[2::2]):
    shape = ecs.operation_model(operation).input_shape
    document = json.load(open(path))
    report = botocore.validate.ParamValidator().validate(document, shape)
    mistakes += [report.generate_report()] if report.has_errors() else []
    mistakes += enums(shape, document, operation)
print("\n".join(mistakes))
sys.exit(bool(mistakes))
