"""Servers on this machine for tests of live sources: pictures and an MJPEG stream by HTTP, and JPEG video by RTSP.

The RTSP server speaks as much of RFC 2326 as a player needs to start, and sends RTP (RFC 3550) with the JPEG payload of
RFC 2435 between the lines of the same connection.
"""

from __future__ import annotations

import http.server
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import cv2
import numpy as np

PACKET = 1200  # bytes of image data in one RTP packet
CLOCK = 90_000  # RTP ticks a second for JPEG


def jpeg(image: np.ndarray) -> bytes:
    """Encode BGR as baseline JPEG with the standard Huffman tables and colour at half the resolution."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    return cv2.imencode(".jpg", image, options)[1].tobytes()


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[str]:
    """Serve in a thread until the block ends; give host:port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Threads(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True


# ---------------------------------------------------------------------------------------------------------------- HTTP
def http_server(
    pages: dict[str, tuple[str, bytes]], frames: Callable[[], Iterator[np.ndarray]] | None = None, pause: float = 0.0
) -> socketserver.BaseServer:
    """`pages` {path: (content type, bytes)}; `/stream` sends `frames` as multipart JPEG, `pause` seconds apart."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            with suppress(ConnectionError):
                if frames is not None and self.path == "/stream":
                    self._stream(frames())
                elif self.path.split("?")[0] in pages:
                    kind, data = pages[self.path.split("?")[0]]
                    self.send_response(200)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                else:
                    self.send_error(404)

        def _stream(self, images: Iterator[np.ndarray]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for image in images:
                data = jpeg(image)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(pause)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    return server


# ---------------------------------------------------------------------------------------------------------------- RTSP
class _RtspServer(_Threads):
    frames: Callable[[], Iterator[np.ndarray]]
    fps: int


class _Rtsp(socketserver.StreamRequestHandler):
    """One player: answers its requests, plays once, closes."""

    server: _RtspServer

    def handle(self) -> None:
        with suppress(ConnectionError, ValueError):
            while request := self._request():
                method, _, headers = request
                self._answer(method, headers)
                if method == "PLAY":
                    self._play()
                    return

    def _request(self) -> tuple[str, str, dict[str, str]] | None:
        line = self.rfile.readline().decode()
        if not line.strip():
            return None
        method, address, _ = line.split(" ", 2)
        headers = {}
        while (line := self.rfile.readline().decode()).strip():
            key, _, value = line.partition(":")
            headers[key.strip().lower()] = value.strip()
        return method, address, headers

    def _answer(self, method: str, headers: dict[str, str]) -> None:
        body, extra = "", ""
        if method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\n"
                f"a=framerate:{self.server.fps}\r\na=control:track0\r\n"
            )
            extra = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP":
            tcp = "TCP" in headers.get("transport", "")
            if not tcp:
                self.wfile.write(f"RTSP/1.0 461 Unsupported\r\nCSeq: {headers['cseq']}\r\n\r\n".encode())
                return
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        else:
            extra = "Session: 1\r\n"
        self.wfile.write(f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\n{extra}\r\n{body}".encode())

    def _play(self) -> None:
        number = 0
        for i, image in enumerate(self.server.frames()):
            for packet in rtp_packets(jpeg(image), image.shape[:2], number, i * CLOCK // self.server.fps):
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                number += 1
            time.sleep(0.5 / self.server.fps)


def rtsp_server(frames: Callable[[], Iterator[np.ndarray]], fps: int = 25) -> socketserver.BaseServer:
    """Serve `frames` at any path, once for each player, then close the connection."""
    server = _RtspServer(("127.0.0.1", 0), _Rtsp)
    server.frames, server.fps = frames, fps
    return server


def rtp_packets(data: bytes, shape: tuple[int, int], number: int, stamp: int) -> Iterator[bytes]:
    """Cut a JPEG file into RTP packets: quantisation tables go in the first, the other headers are left out."""
    tables, scan = _tables_and_scan(data)
    h, w = shape
    for start in range(0, len(scan), PACKET):
        piece = scan[start : start + PACKET]
        last = start + PACKET >= len(scan)
        rtp = struct.pack(">BBHII", 0x80, 26 | (0x80 if last else 0), (number + start // PACKET) & 0xFFFF, stamp, 7)
        head = struct.pack(">B", 0) + start.to_bytes(3, "big") + bytes([1, 255, w // 8, h // 8])  # type 1: 4:2:0
        quantisation = b"" if start else struct.pack(">BBH", 0, 0, len(tables)) + tables
        yield rtp + head + quantisation + piece


def _tables_and_scan(data: bytes) -> tuple[bytes, bytes]:
    """Return the quantisation tables, 64 bytes each, and the entropy-coded data of a JPEG file."""
    tables, at = b"", 2
    while True:
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + size]
        if marker == 0xDB:
            tables += b"".join(segment[i + 1 : i + 65] for i in range(0, len(segment), 65))
        at += 2 + size
        if marker == 0xDA:
            return tables, data[at:-2]  # without the end marker
