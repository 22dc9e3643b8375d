"""Prompts are checked by the control plane before anything is drawn."""

import grpc.aio

from myosotis.errors import PromptBlockedError, UnavailableError
from myosotis.transport.errors import from_rpc_error
from myosotis.v1 import moderation_service_pb2 as pb
from myosotis.v1 import moderation_service_pb2_grpc as pb_grpc
from myosotis.v1 import policy_pb2

_DRAWN = (policy_pb2.ALLOW, policy_pb2.FLAG)


class PromptCheck:
    """Asks the control plane; a prompt that it cannot answer for is not drawn."""

    def __init__(
        self, channel: grpc.aio.Channel, *, model: str, timeout_seconds: float = 5.0
    ) -> None:
        """Prepare.

        Args:
            channel: to the control plane.
            model: ``models/{model}`` that the prompts are for.
            timeout_seconds: longest wait for an answer.
        """
        self._stub = pb_grpc.ModerationServiceStub(channel)
        self._model = model
        self._timeout_seconds = timeout_seconds

    async def check(self, prompt: str, *, generation: int) -> None:
        """Return when *prompt* may be drawn by a server that serves *generation*.

        Raises:
            PromptBlockedError: a policy says no.
            UnavailableError: nobody could say.
        """
        request = pb.CheckPromptsRequest(
            model=self._model, prompts=[prompt], generation=generation
        )
        try:
            response = await self._stub.CheckPrompts(
                request, timeout=self._timeout_seconds
            )
        except grpc.aio.AioRpcError as error:
            problem = str(from_rpc_error(error, service="control plane"))
            raise UnavailableError("prompt check", problem) from error
        if len(response.decisions) != 1:
            raise UnavailableError("prompt check", "gave no decision")
        decision = response.decisions[0]
        if decision.action in _DRAWN:
            return
        if decision.action != policy_pb2.BLOCK:
            raise UnavailableError("prompt check", "gave a decision unknown here")
        blocking = (
            finding.concept
            for finding in decision.findings
            if finding.action == policy_pb2.BLOCK and not finding.dry_run
        )
        raise PromptBlockedError(next(blocking, ""), response.policy_revision)
