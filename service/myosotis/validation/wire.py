"""Measurements and gate results to messages and back. Pure and total."""

from myosotis.v1 import patch_pb2
from myosotis.validation.gate import GateResult, Verdict
from myosotis.validation.measurements import Measurement


def measurement_to_wire(measurement: Measurement) -> patch_pb2.Measurement:
    """A measurement as a message."""
    return patch_pb2.Measurement(
        metric=measurement.metric,
        concept=measurement.concept,
        patched=measurement.patched,
        value=measurement.value,
        sample_size=measurement.sample_size,
        low=measurement.low,
        high=measurement.high,
        detector_profile=measurement.detector_profile,
    )


def measurement_from_wire(message: patch_pb2.Measurement) -> Measurement:
    """A measurement from its message."""
    return Measurement(
        metric=message.metric,
        value=message.value,
        sample_size=message.sample_size,
        low=message.low,
        high=message.high,
        patched=message.patched,
        concept=message.concept,
        detector_profile=message.detector_profile,
    )


def gate_result_to_wire(result: GateResult) -> patch_pb2.GateResult:
    """A gate result as a message."""
    message = patch_pb2.GateResult(
        concept=result.concept,
        rule=result.rule,
        verdict=patch_pb2.Verdict.Value(result.verdict),
        bound=result.bound,
        detail=result.detail,
    )
    if result.value is not None:
        message.value = result.value
    return message


def gate_result_from_wire(message: patch_pb2.GateResult) -> GateResult:
    """A verdict that this version does not know is ERROR: it does not pass."""
    known = message.verdict in patch_pb2.Verdict.values() and message.verdict
    return GateResult(
        concept=message.concept,
        rule=message.rule,
        verdict=(
            Verdict(patch_pb2.Verdict.Name(message.verdict)) if known else Verdict.ERROR
        ),
        bound=message.bound,
        value=message.value if message.HasField("value") else None,
        detail=message.detail,
    )
