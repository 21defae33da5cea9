"""Datagrams over HTTPS: the transport itself, and its paths.

A path that this node dialled keeps its handle for as long as the core wants it; the stream behind
it is opened when something is to be sent, and opened again when it ended. A path that another node
dialled is its stream: both end together.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

from tunmesh.plugin import EndpointError, PathHandle, Transport, TransportContext, TransportError
from tunmesh.underlay import Discovery
from tunmesh_transport_https.admission import NodeInfo
from tunmesh_transport_https.certificates import Certificates
from tunmesh_transport_https.client import Client
from tunmesh_transport_https.endpoints import SCHEME, Endpoint, parse_endpoint, split_authority
from tunmesh_transport_https.options import DEFAULT_LISTEN, Options
from tunmesh_transport_https.server import Guest, Server
from tunmesh_transport_https.stream import MAX_DATAGRAM, Stream

if TYPE_CHECKING:
    import socket

    from websockets.protocol import Protocol

    from tunmesh.interfaces.tun import Buffer
    from tunmesh.plugin import Watch
    from tunmesh_transport_https.pipe import Pipe

log = logging.getLogger(__name__)
