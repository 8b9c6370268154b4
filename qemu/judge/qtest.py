# SPDX-License-Identifier: GPL-2.0
"""A machine, driven over the qtest protocol."""

import os
import socket
import subprocess
import tempfile

# What is freed must not look as if it were not
MALLOC = 'glibc.malloc.tcache_count=0:glibc.malloc.perturb=165'


class Fail(Exception):
    pass


def check(cond, text):
    if not cond:
        raise Fail(text)


def equal(got, want, what):
    if got != want:
        show = lambda v: hex(v) if isinstance(v, int) and not isinstance(v, bool) else repr(v)
        raise Fail('%s is %s, not %s' % (what, show(got), show(want)))


class Qtest:
    """A machine, driven over the qtest protocol"""

    def __init__(self, binary, args):
        self.log = tempfile.TemporaryFile()
        ours, theirs = socket.socketpair()
        cmd = [binary, '-machine', 'q35', '-accel', 'qtest', '-m', '64M',
               '-nodefaults', '-display', 'none',
               '-chardev', 'socket,id=qtest,fd=%d' % theirs.fileno(),
               '-qtest', 'chardev:qtest', '-qtest-log', 'none']
        for path in ('/usr/share/seabios', '/usr/share/qemu'):
            if os.path.isdir(path):
                cmd += ['-L', path]
        self.proc = subprocess.Popen(cmd + args, stdin=subprocess.DEVNULL,
                                     stdout=self.log, stderr=self.log,
                                     pass_fds=[theirs.fileno()],
                                     env=dict(os.environ, GLIBC_TUNABLES=MALLOC))
        theirs.close()
        ours.settimeout(20)
        self.sock = ours
        self.file = ours.makefile('r')

    def cmd(self, text):
        try:
            self.sock.sendall((text + '\n').encode())
            while True:
                line = self.file.readline()
                if not line:
                    raise Fail('QEMU died at "%s"' % text[:60])
                words = line.split()
                if words[0] == 'OK':
                    return words[1:]
                if words[0] == 'FAIL' or words[0] == 'ERR':
                    raise Fail('qtest: %s' % line.strip())
        except ConnectionError:
            raise Fail('QEMU died at "%s"' % text[:60]) from None
        except OSError as err:
            raise Fail('QEMU does not answer "%s": %s' % (text[:60], err)) from None

    def close(self):
        self.sock.close()
        self.proc.kill()
        self.proc.wait()

    def output(self):
        self.log.seek(0)
        return self.log.read().decode(errors='replace')

    def r16(self, addr):
        return int(self.cmd('readw %#x' % addr)[0], 16)

    def r32(self, addr):
        return int(self.cmd('readl %#x' % addr)[0], 16)

    def r64(self, addr):
        return int(self.cmd('readq %#x' % addr)[0], 16)

    def w16(self, addr, val):
        self.cmd('writew %#x %#x' % (addr, val))

    def w32(self, addr, val):
        self.cmd('writel %#x %#x' % (addr, val))

    def w64(self, addr, val):
        self.cmd('writeq %#x %#x' % (addr, val & (2**64 - 1)))

    def write(self, addr, data):
        self.cmd('write %#x %#x 0x%s' % (addr, len(data), data.hex()))

    def read(self, addr, size):
        return bytes.fromhex(self.cmd('read %#x %#x' % (addr, size))[0][2:])

    def zero(self, addr, size):
        self.cmd('memset %#x %#x 0' % (addr, size))

    def step(self, ns):
        return int(self.cmd('clock_step %d' % ns)[0])
