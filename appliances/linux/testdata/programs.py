"""What Python programs lean on, one line each; exit status 0 where all is right."""
import asyncio, ctypes, hashlib, http.server, json, mmap, multiprocessing, os, pathlib, select, signal
import socket, sqlite3, ssl, struct, subprocess, sys, tempfile, threading, time, urllib.request, zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

failed = []


def check(name, got, want):
    print("python:", name, "ok" if got == want else f"is {got!r}, want {want!r}", flush=True)
    if got != want:
        failed.append(name)


def square(n):
    return n * n


def threads():
    with ThreadPoolExecutor(8) as pool:
        check("threads", sum(pool.map(square, range(1000))), 332833500)
    lock, n = threading.Condition(), [0]

    def turn(k):
        for i in range(100):
            with lock:
                lock.wait_for(lambda: n[0] % 4 == k)
                n[0] += 1
                lock.notify_all()

    all = [threading.Thread(target=turn, args=(k,)) for k in range(4)]
    for t in all: t.start()
    for t in all: t.join()
    check("turns", n[0], 400)


def database():
    with tempfile.TemporaryDirectory(dir="/var/tmp") as d:
        for journal in "delete", "wal":
            file = f"{d}/{journal}.db"
            db = sqlite3.connect(file)
            check("sqlite " + journal, db.execute(f"pragma journal_mode={journal}").fetchone()[0], journal)
            db.execute("create table t (k integer primary key, v text)")

            def add(k):
                c = sqlite3.connect(file, timeout=120)
                for i in range(20):
                    with c:
                        c.execute("insert into t values (?, ?)", (k * 20 + i, "x" * 500))
                c.close()

            all = [threading.Thread(target=add, args=(k,)) for k in range(4)]
            for t in all: t.start()
            for t in all: t.join()
            check("rows", db.execute("select count(*), sum(k), sum(length(v)) from t").fetchone(), (80, 3160, 40000))
            check("integrity", db.execute("pragma integrity_check").fetchone()[0], "ok")
            db.close()


def sockets():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode() * 1000)

        def log_message(self, *a):
            pass

    for host in "127.0.0.1", "::1":
        kind = type("Server", (http.server.ThreadingHTTPServer,), {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET})
        with kind((host, 0), Handler) as s:
            threading.Thread(target=s.serve_forever, daemon=True).start()
            name = f"[{host}]" if ":" in host else host
            got = urllib.request.urlopen(f"http://{name}:{s.server_address[1]}/page").read()
            check("http " + host, got, b"/page" * 1000)
            s.shutdown()
    a, b = socket.socketpair()
    r, w = os.pipe()
    socket.send_fds(a, [b"here"], [w])
    got, fds, _, _ = socket.recv_fds(b, 10, 1)
    os.write(fds[0], b"passed")
    check("descriptors", (got, os.read(r, 10)), (b"here", b"passed"))
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.bind(("127.0.0.1", 0))
    u.sendto(b"datagram", u.getsockname())
    p = select.epoll()
    p.register(u, select.EPOLLIN)
    check("epoll", p.poll(60), [(u.fileno(), select.EPOLLIN)])
    check("datagram", u.recv(100), b"datagram")


async def loop():
    async def serve(r, w):
        w.write((await r.readline()).upper())
        await w.drain()
        w.close()

    s = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = s.sockets[0].getsockname()[1]

    async def ask(n):
        r, w = await asyncio.open_connection("127.0.0.1", port)
        w.write(f"line {n}\n".encode())
        got = await r.read()
        w.close()
        return got

    got = await asyncio.gather(*(ask(n) for n in range(50)))
    check("asyncio", got, [f"LINE {n}\n".encode() for n in range(50)])
    p = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(6 * 7)", stdout=subprocess.PIPE)
    check("asyncio process", (await p.communicate())[0], b"42\n")


def processes():
    p = subprocess.run([sys.executable, "-c", "import sys; sys.stdout.write(sys.stdin.read()[::-1]); sys.exit(5)"],
                       input=b"abc" * 50000, capture_output=True)
    check("subprocess", (p.returncode, p.stdout == b"cba" * 50000, p.stderr), (5, True, b""))
    q = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    q.send_signal(signal.SIGTERM)
    check("killed", q.wait(), -signal.SIGTERM)
    try:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"], timeout=1)
        check("timeout", "none", "raised")
    except subprocess.TimeoutExpired:
        check("timeout", "raised", "raised")
    with ProcessPoolExecutor(2) as pool:
        check("pool", sum(pool.map(square, range(200), chunksize=20)), 2646700)
    q = multiprocessing.get_context("fork").Queue()
    child = multiprocessing.get_context("fork").Process(target=lambda: q.put(os.getppid()))
    child.start()
    check("fork", q.get(timeout=120), os.getpid())
    child.join()
    check("joined", child.exitcode, 0)


def files():
    with tempfile.TemporaryDirectory(dir="/var/tmp") as d:
        f = pathlib.Path(d) / "file"
        f.write_bytes(bytes(range(256)) * 4096)
        with f.open("r+b") as h, mmap.mmap(h.fileno(), 0) as m:
            m[4096:4100] = b"here"
            m.flush()
        check("mapping", f.read_bytes()[4095:4101], b"\xffhere\x04")
        check("size", f.stat().st_size, 1 << 20)
        f.rename(f.with_name("other"))
        check("names", sorted(os.listdir(d)), ["other"])
    check("digest", hashlib.sha256(zlib.decompress(zlib.compress(b"a" * 10**6))).hexdigest()[:16], "cdc76e5c9914fb92")
    check("json", json.loads(json.dumps({"k": [1, 2.5, None, "ü"]})), {"k": [1, 2.5, None, "ü"]})
    check("random", len(os.urandom(100000)), 100000)


def signals():
    seen = []
    signal.signal(signal.SIGALRM, lambda *a: seen.append("alarm"))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    while not seen:
        signal.pause()
    check("alarm", seen, ["alarm"])
    check("library", ctypes.CDLL(None).abs(-5), 5)
    t = time.monotonic()
    time.sleep(0.05)
    check("sleep", time.monotonic() - t >= 0.05, True)


if __name__ == "__main__":
    threads()
    database()
    sockets()
    asyncio.run(loop())
    processes()
    files()
    signals()
    print("python: failed", failed)
    sys.exit(1 if failed else 0)
