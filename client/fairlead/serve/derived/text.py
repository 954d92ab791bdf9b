"""A derived service as the text of a .proto file, as ``buf format`` would have it."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

from fairlead.serve.derived.descriptor import ANNOTATIONS, http_path
from fairlead.serve.derived.docs import attribute_docs
from fairlead.serve.derived.lock import LockedEnum, LockedMessage, LockedService
from fairlead.serve.derived.shapes import Enumeration, Field, Imported, Label, Message, Method, Service

_WIDTH = 116


def text_of(service: Service, lock: LockedService) -> str:
    """The file. The order is the lock's, so that moving code about does not change it."""
    methods = {each.name: each for each in service.methods}
    blocks = [_service(service, [methods[name] for name in lock.methods])]
    blocks += [
        _message(service.messages[name], locked) for name, locked in lock.messages.items() if name in service.messages
    ]
    blocks += [_enum(service.enums[name], locked) for name, locked in lock.enums.items() if name in service.enums]
    imports = "".join(f'import "{file}";\n' for file in sorted([ANNOTATIONS, *service.imports()]))
    head = [
        f"// Derived from the type hints of {service.source} by `fairlead build --proto`. Do not edit.\n"
        'syntax = "proto3";\n',
        f"package {service.package};\n",
        imports,
        "option java_multiple_files = true;\n",
    ]
    return "\n".join([*head, *("\n".join(block) + "\n" for block in blocks)])


def comment(doc: str, indent: str = "") -> Iterator[str]:
    """A docstring as the lines of a comment, its paragraphs kept."""
    for line in inspect.cleandoc(doc).splitlines():
        kept = len(line) - len(line.lstrip())
        wrapped = textwrap.wrap(line, _WIDTH - len(indent) - 3, subsequent_indent=" " * kept) or [""]
        yield from (f"{indent}// {part}".rstrip() for part in wrapped)


def _service(service: Service, methods: list[Method]) -> list[str]:
    lines = [*comment(service.doc or f"The methods of {service.source}."), f"service {service.name} {{"]
    for method in methods:
        asked = f"{'stream ' if method.client_streaming else ''}{method.request.name}"
        answered = f"{'stream ' if method.server_streaming else ''}{method.response.name}"
        lines += comment(method.doc or f"Calls {method.python_name}.", "  ")
        lines += [
            f"  rpc {method.name}({asked}) returns ({answered}) {{",
            "    option (google.api.http) = {",
            f'      post: "{http_path(service, method)}"',
            '      body: "*"',
            "    };",
            "  }",
        ]
    return [*lines, "}"]


def _message(message: Message, locked: LockedMessage) -> list[str]:
    fields = {each.name: each for each in message.fields}
    docs = attribute_docs(message.source)
    body = _reserved(
        [*(each.number for each in locked.removed.values()), *locked.reserved],
        [name for name in locked.removed if name not in locked.fields],
    )
    for name, numbered in locked.fields.items():
        field = fields[name]
        body += comment(_field_doc(message, field, docs.get(field.key, "")), "  ")
        prefix = {Label.OPTIONAL: "optional ", Label.REPEATED: "repeated "}.get(field.label, "")
        body.append(f"  {prefix}{field.type} {field.name} = {numbered.number};")
    head = [*comment(message.doc or f"A {message.name}.")]
    return [*head, f"message {message.name} {{", *body, "}"] if body else [*head, f"message {message.name} {{}}"]


def _field_doc(message: Message, field: Field, said: str) -> str:
    note = field.element.note if isinstance(field.element, Imported) else ""
    what = "attribute" if message.source is not None else "parameter"
    parts = [field.doc or said or f"The {what} {field.key}.", f"Elements are {note}." if note else ""]
    return " ".join(filter(None, parts))


def _enum(enumeration: Enumeration, locked: LockedEnum) -> list[str]:
    gone = [name for name in locked.removed if name not in locked.values]
    members = enumeration.members
    docs = attribute_docs(type(next(iter(members.values()))))
    return [
        *comment(enumeration.doc or f"A {enumeration.name}."),
        f"enum {enumeration.name} {{",
        *_reserved(list(locked.removed.values()), gone),
        "  // None of the others.",
        f"  {enumeration.zero} = 0;",
        *(
            line
            for name, number in locked.values.items()
            for line in (
                *comment(docs.get(members[name].name) or f"{members[name].name}.", "  "),
                f"  {name} = {number};",
            )
        ),
        "}",
    ]


def _reserved(numbers: list[int], names: list[str]) -> list[str]:
    lines = []
    if numbers:
        lines.append(f"  reserved {', '.join(map(str, sorted(numbers)))};")
    if names:
        lines.append("  reserved " + ", ".join(f'"{name}"' for name in names) + ";")
    return lines
