"""The ceiling: nginx that answers 204 to everything and counts nothing."""

from bench.peers import nginx
from bench.peers.system import READY_S, System
from tally.address import Address
from tally.command.machine.addresses import LOOPBACK, fresh_ports


class Ceiling(System):
    """nginx ``return 204``."""

    name = "ceiling"
    title = "nginx return 204"
    counts = False

    def start(self) -> None:
        """Start nginx."""
        directory, address = self.place.directory, Address(LOOPBACK, next(fresh_ports()))
        nginx.write_configuration(directory, address, "        return 204;", lua=False)
        self.processes.start("nginx", nginx.command(directory))
        self.processes.wait_until(lambda: nginx.answers(address, "/"), name="nginx", within_s=READY_S)
        self.address = address
