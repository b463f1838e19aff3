"""Which replica a request goes to: the one its picture's digest points at, or the next on the ring.

Replicas stand on a ring of hashes, so that when one comes or goes only the pictures nearest to it move.
"""

from __future__ import annotations

from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter


class PictureRouter(ConsistentHashRouter):
    """Ray Serve's router for sessions, a picture being the session, with patience for busy replicas.

    By default a replica that is asked how busy it is and says nothing for 0.1 seconds is passed over; on a
    machine whose cores all compute that is no sign of anything, and the next replica lacks the prefix.
    """

    queue_len_response_deadline_s = 1.0
    max_queue_len_response_deadline_s = 5.0
