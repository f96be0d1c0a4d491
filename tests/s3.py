"""A real S3 API on loopback: moto's server in a thread, with one empty bucket."""

from __future__ import annotations

import os
import urllib.request

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
BUCKET = "team-bucket"


class S3:
    """moto's server in a thread of this process."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self._is_up = True
        self.address = "http://{}:{}".format(*self._server.get_host_and_port())
        self._ask("PUT", BUCKET)

    def stop(self) -> None:
        """Be gone; a second time does nothing."""
        if self._is_up:
            self._server.stop()
        self._is_up = False

    def environment(self, prefix: str) -> dict[str, str]:
        """What a machine is given; the prefix is a store of its own."""
        return {
            "BUILDER_REMOTE": f"s3://{BUCKET}/{prefix}",
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def names(self) -> list[str]:
        listing = self._ask("GET", f"{BUCKET}?list-type=2").decode()
        return [part.partition("</Key>")[0] for part in listing.split("<Key>")[1:]]

    def write(self, name: str, content: bytes) -> None:
        """Overwrite an object, as whoever has the credentials may."""
        import s3fs

        known = self.environment("")
        system = s3fs.S3FileSystem(
            key=known["AWS_ACCESS_KEY_ID"], secret=SECRET, endpoint_url=self.address, skip_instance_cache=True
        )
        system.pipe_file(f"{BUCKET}/{name}", content)

    def _ask(self, method: str, path: str, content: bytes = b"") -> bytes:
        request = urllib.request.Request(f"{self.address}/{path}", data=content or None, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return bytes(answer.read())
