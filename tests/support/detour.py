"""A detour that takes its time: what is routed to a TUN device comes out of it again, so many seconds later.

    detour.py DEVICE SECONDS

The kernel of the tests may lack the netem queue discipline, which would do the same.
"""

import fcntl
import heapq
import os
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001

# More than these are dropped, as a queue does.
HELD_AT_MOST = 10_000

device, delay = sys.argv[1], float(sys.argv[2])
tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TUN_NO_PI))
held = []
number = 0
while True:
    wait = max(0.0, held[0][0] - time.monotonic()) if held else None
    ready, _, _ = select.select([tun], [], [], wait)
    if ready:
        packet = os.read(tun, 65_536)
        number += 1
        if len(held) < HELD_AT_MOST:
            heapq.heappush(held, (time.monotonic() + delay, number, packet))
    while held and held[0][0] <= time.monotonic():
        os.write(tun, heapq.heappop(held)[2])
