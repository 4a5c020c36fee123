# SPDX-License-Identifier: MIT
"""grow.py N - build structures of N parts, drop half of them, and again"""
import json
import random
import sys
import time

n = int(sys.argv[1])
kept = {}
while True:
    for i in range(n):
        kept[random.randrange(2 * n)] = [i, str(i), {"i": i}]
        if i % 2000 == 0:
            time.sleep(0.01)
    text = json.dumps(list(kept.values())[:n // 10])
    for key in list(kept)[::2]:
        del kept[key]
    time.sleep(len(text) % 10 / 10)
