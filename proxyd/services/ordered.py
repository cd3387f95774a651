"""Services that stand on one another: started from the ground up, stopped from the top down."""

from __future__ import annotations

from twisted.application.service import IService, MultiService
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger


class OrderedService(MultiService):
    """
    A collection of services where each may lean on those added before it.

    They start in the order they were added. They stop in the opposite order,
    each only after the one above has stopped altogether. (C{MultiService}
    stops all of them at once and hides what went wrong.)
    """

    _log = Logger()

    def startService(self) -> None:
        """
        Start each service, first to last.

        @raise Exception: what a service's own start raised; those after it
            are not started, and a later stop leaves them alone
        """
        self.running = 1
        for service in list(self):
            service.startService()

    def stopService(self) -> Deferred[None]:
        """
        Stop each service, last to first, each when the one before it is done.

        A service that fails to stop is logged and keeps no other from stopping.

        @return: fires with None when all have stopped; never fails
        """
        self.running = 0
        return Deferred.fromCoroutine(self._stop_all())

    async def _stop_all(self) -> None:
        for service in reversed(list(self)):
            if service.running:
                await self._stop(service)

    async def _stop(self, service: IService) -> None:
        try:
            await maybeDeferred(service.stopService)
        except CancelledError:
            # It gave up something it was waiting for: that is a stop.
            pass
        except Exception:
            self._log.failure(
                "{name} did not stop well", name=service.name or type(service).__name__
            )
