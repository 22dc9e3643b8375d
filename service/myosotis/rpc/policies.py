"""PolicyService."""

import asyncio

import grpc.aio

from myosotis import names
from myosotis.errors import InvalidArgumentError, NotFoundError
from myosotis.policy.policies import PolicyRevision
from myosotis.policy.ports import PolicyStore
from myosotis.policy.registry import PolicyRegistry
from myosotis.policy.wire import policy_from_wire, policy_to_wire, revision_to_wire
from myosotis.rpc.paging import page
from myosotis.v1 import policy_pb2, policy_service_pb2, policy_service_pb2_grpc


class PolicyServicer(policy_service_pb2_grpc.PolicyServiceServicer):
    """Reads and changes the registry."""

    def __init__(self, registry: PolicyRegistry, store: PolicyStore) -> None:
        self._registry = registry
        self._store = store

    async def GetPolicy(
        self,
        request: policy_service_pb2.GetPolicyRequest,
        context: grpc.aio.ServicerContext,
    ) -> policy_pb2.Policy:
        names.parse("policy", request.name)
        registry = await asyncio.to_thread(self._store.registry)
        for revision in registry.policies:
            if revision.policy_name == request.name:
                return policy_to_wire(revision)
        raise NotFoundError(request.name)

    async def ListPolicies(
        self,
        request: policy_service_pb2.ListPoliciesRequest,
        context: grpc.aio.ServicerContext,
    ) -> policy_service_pb2.ListPoliciesResponse:
        registry = await asyncio.to_thread(self._store.registry)
        ordered = sorted(registry.policies, key=lambda r: r.policy_name)

        def read(limit: int, after: str | None) -> list[PolicyRevision]:
            return [r for r in ordered if after is None or r.policy_name > after][
                :limit
            ]

        rows, token = page(
            size=request.page_size,
            token=request.page_token,
            kind=str,
            read=read,
            key=lambda revision: revision.policy_name,
        )
        return policy_service_pb2.ListPoliciesResponse(
            policies=[policy_to_wire(revision) for revision in rows],
            next_page_token=token,
            revision=registry.revision,
        )

    async def UpdatePolicy(
        self,
        request: policy_service_pb2.UpdatePolicyRequest,
        context: grpc.aio.ServicerContext,
    ) -> policy_pb2.Policy:
        if not request.HasField("policy"):
            raise InvalidArgumentError("policy", "missing")
        revision = await asyncio.to_thread(
            self._registry.update,
            policy_from_wire(request.policy),
            etag=request.policy.etag,
            allow_missing=request.allow_missing,
            validate_only=request.validate_only,
        )
        return policy_to_wire(revision)

    async def DeletePolicy(
        self,
        request: policy_service_pb2.DeletePolicyRequest,
        context: grpc.aio.ServicerContext,
    ) -> policy_service_pb2.DeletePolicyResponse:
        names.parse("policy", request.name)
        registry = await asyncio.to_thread(
            self._registry.delete, request.name, etag=request.etag
        )
        return policy_service_pb2.DeletePolicyResponse(revision=registry.revision)

    async def ListPolicyRevisions(
        self,
        request: policy_service_pb2.ListPolicyRevisionsRequest,
        context: grpc.aio.ServicerContext,
    ) -> policy_service_pb2.ListPolicyRevisionsResponse:
        names.parse("policy", request.parent, field="parent")
        rows, token = await asyncio.to_thread(
            page,
            size=request.page_size,
            token=request.page_token,
            kind=int,
            read=lambda limit, before: self._store.revisions(
                request.parent, limit=limit, before=before
            ),
            key=lambda revision: revision.number,
        )
        if not rows and not request.page_token:
            raise NotFoundError(request.parent)
        return policy_service_pb2.ListPolicyRevisionsResponse(
            policy_revisions=[revision_to_wire(revision) for revision in rows],
            next_page_token=token,
        )
