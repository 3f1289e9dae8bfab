"""Runs a program that needs torch on one core, once the GPU is there. Arguments: the core, the program, its own.

Lives that take turns on one core meet the same speed of it: those of a virtual machine have two.
"""

import os
import runpy
import sys
from pathlib import Path

import torch

if __name__ == "__main__":
    core, sys.argv = int(sys.argv[1]), sys.argv[2:]
    if torch.cuda.is_available():
        torch.cuda.init()
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
    runpy.run_path(sys.argv[0], run_name="__main__")
