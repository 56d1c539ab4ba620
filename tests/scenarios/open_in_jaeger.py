"""What Jaeger holds of the OTLP requests in a folder, as JSON: the spans of each trace, in its own model."""
import collections, json, pathlib, sys
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.jaeger.proto.grpc.gen import model_pb2 as jaeger
from opentelemetry.exporter.jaeger.proto.grpc.translate import ProtobufTranslator, Translate
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags


def attributes(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def context(trace, span):
    read = SpanContext(int.from_bytes(trace, "big"), int.from_bytes(span, "big"), False, TraceFlags(TraceFlags.SAMPLED))
    assert len(trace) == 16 and len(span) == 8 and read.is_valid, f"no ids: {trace.hex()} {span.hex()}"
    return read


def readable(span, resource, scope):
    assert not span.events and not span.links, "these would be lost here"
    assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano, f"no times: {span}"
    return ReadableSpan(
        span.name, context(span.trace_id, span.span_id),
        parent=context(span.trace_id, span.parent_span_id) if span.parent_span_id else None,
        resource=resource, attributes=BoundedAttributes(attributes=attributes(span.attributes)),
        # OTLP counts kinds from 1, where 0 is none.
        kind=SpanKind(span.kind - 1), status=Status(StatusCode(span.status.code), span.status.message or None),
        start_time=span.start_time_unix_nano, end_time=span.end_time_unix_nano,
        instrumentation_scope=InstrumentationScope(scope.name, scope.version))


def value(tag):
    return getattr(tag, {jaeger.STRING: "v_str", jaeger.BOOL: "v_bool", jaeger.INT64: "v_int64", jaeger.FLOAT64: "v_float64"}[tag.v_type])


def shown(span):
    above = [reference for reference in span.references if reference.ref_type == jaeger.CHILD_OF]
    assert len(above) == len(span.references) <= 1 and all(reference.trace_id == span.trace_id for reference in above), span
    return {"id": span.span_id.hex(), "parent": above[0].span_id.hex() if above else None, "name": span.operation_name,
            "service": span.process.service_name, "tags": {tag.key: value(tag) for tag in span.tags}}


traces = collections.defaultdict(list)
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    for of_resource in ExportTraceServiceRequest.FromString(path.read_bytes()).resource_spans:
        resource = Resource(attributes(of_resource.resource.attributes))
        spans = [readable(span, resource, of_scope.scope) for of_scope in of_resource.scope_spans for span in of_scope.spans]
        for span in Translate(spans)._translate(ProtobufTranslator(resource.attributes["service.name"])):
            read = jaeger.Span.FromString(span.SerializeToString())
            assert read == span, "Jaeger reads what was written"
            traces[read.trace_id.hex()].append(shown(read))
print(json.dumps(traces))
