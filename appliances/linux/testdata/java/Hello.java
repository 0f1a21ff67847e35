import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

/** What a program of the JVM leans on, one line each; the last is "hello: done". */
public class Hello {
    static int depth;

    static void say(String what, Object result) {
        System.out.println("hello: " + what + ": " + result);
    }

    static void recurse() { depth++; recurse(); }

    static void threads() throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(16);
        AtomicLong sum = new AtomicLong();
        List<Future<Long>> all = new ArrayList<>();
        for (int k = 0; k < 64; k++) {
            final int n = k;
            all.add(pool.submit(() -> {
                long s = 0;
                for (int i = 0; i < 20000; i++) { s += i ^ n; }
                sum.addAndGet(1);
                return s;
            }));
        }
        for (Future<Long> f : all) f.get();
        pool.shutdown();
        say("threads", sum.get() + " " + pool.awaitTermination(60, TimeUnit.SECONDS));
        // Two threads that hand a token to each other.
        SynchronousQueue<Integer> a = new SynchronousQueue<>(), b = new SynchronousQueue<>();
        Thread t = new Thread(() -> {
            try { for (int i = 0; i < 500; i++) b.put(a.take() + 1); } catch (InterruptedException e) { }
        });
        t.start();
        int v = 0;
        for (int i = 0; i < 500; i++) { a.put(v); v = b.take(); }
        t.join();
        say("handover", v);
        Object lock = new Object();
        Thread w = new Thread(() -> { synchronized (lock) { try { lock.wait(); } catch (InterruptedException e) { say("interrupt", "seen"); } } });
        w.start();
        while (w.getState() != Thread.State.WAITING) Thread.sleep(1);
        w.interrupt();
        w.join();
    }

    static void garbage() {
        List<byte[]> keep = new LinkedList<>();
        long n = 0;
        for (int i = 0; i < 20000; i++) {
            keep.add(new byte[16 << 10]);
            if (keep.size() > 400) keep.remove(0);
            n += keep.get(keep.size() - 1).length;
        }
        System.gc();
        say("garbage", n);
    }

    static void faults() {
        try { Object o = null; o.hashCode(); say("null", "no exception"); } catch (NullPointerException e) { say("null", "caught"); }
        for (int i = 0; i < 3; i++) {
            depth = 0;
            try { recurse(); } catch (StackOverflowError e) { say("overflow", depth > 1000); }
        }
        try { say("divide", 1 / depth * 0 + Integer.parseInt("0") / Integer.parseInt("0")); } catch (ArithmeticException e) { say("divide", "caught"); }
        try { byte[] b = new byte[Integer.MAX_VALUE]; say("memory", b.length); } catch (OutOfMemoryError e) { say("memory", "caught"); }
    }

    static void sockets() throws Exception {
        try (ServerSocket s = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
            Thread t = new Thread(() -> {
                try (Socket c = s.accept()) { c.getInputStream().transferTo(c.getOutputStream()); } catch (IOException e) { say("server", e); }
            });
            t.start();
            try (Socket c = new Socket(s.getInetAddress(), s.getLocalPort())) {
                c.getOutputStream().write("through a socket".getBytes());
                c.shutdownOutput();
                say("sockets", new String(c.getInputStream().readAllBytes()));
            }
            t.join();
        }
        try (Selector sel = Selector.open(); ServerSocketChannel s = ServerSocketChannel.open()) {
            s.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0));
            s.configureBlocking(false);
            s.register(sel, SelectionKey.OP_ACCEPT);
            SocketChannel c = SocketChannel.open(s.getLocalAddress());
            sel.select();
            SocketChannel d = s.accept();
            c.write(ByteBuffer.wrap("selected".getBytes()));
            ByteBuffer in = ByteBuffer.allocate(64);
            d.read(in);
            say("selector", new String(in.array(), 0, in.position()));
            c.close();
            d.close();
        }
        try (DatagramSocket u = new DatagramSocket(0, InetAddress.getLoopbackAddress())) {
            byte[] b = "datagram".getBytes();
            u.send(new DatagramPacket(b, b.length, u.getLocalSocketAddress()));
            DatagramPacket p = new DatagramPacket(new byte[64], 64);
            u.receive(p);
            say("datagram", new String(p.getData(), 0, p.getLength()));
        }
    }

    static void files() throws Exception {
        Path d = Files.createTempDirectory(Path.of("/var/tmp"), "hello");
        Path f = d.resolve("file");
        List<String> lines = new ArrayList<>();
        for (int i = 0; i < 1000; i++) lines.add("line " + i);
        Files.write(f, lines);
        say("files", Files.readAllLines(f).equals(lines) + " " + Files.size(f));
        try (FileChannel c = FileChannel.open(f, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            var m = c.map(FileChannel.MapMode.READ_WRITE, 0, 4096);
            m.put(0, (byte) 'L');
            m.force();
            try (FileLock l = c.tryLock()) { say("lock", l.isValid()); }
        }
        say("mapped", Files.readString(f, StandardCharsets.US_ASCII).charAt(0));
        Files.move(f, d.resolve("other"), StandardCopyOption.ATOMIC_MOVE);
        try (var s = Files.list(d)) { say("list", s.count()); }
        Files.delete(d.resolve("other"));
        Files.delete(d);
    }

    static void processes() throws Exception {
        Process p = new ProcessBuilder("/usr/bin/java", "-version").redirectErrorStream(true).start();
        String out = new String(p.getInputStream().readAllBytes());
        say("process", p.waitFor() + " " + out.contains("OpenJDK"));
    }

    static void timers() throws Exception {
        ScheduledExecutorService s = Executors.newScheduledThreadPool(2);
        CountDownLatch l = new CountDownLatch(20);
        s.scheduleAtFixedRate(l::countDown, 0, 5, TimeUnit.MILLISECONDS);
        say("timers", l.await(60, TimeUnit.SECONDS));
        s.shutdownNow();
    }

    static void parallel() {
        say("parallel", java.util.stream.IntStream.range(0, 200000).parallel().mapToLong(i -> i).sum());
    }

    public static void main(String[] args) throws Exception {
        Set<String> skip = new HashSet<>(Arrays.asList(args));
        threads();
        garbage();
        faults();
        sockets();
        files();
        timers();
        parallel();
        if (!skip.contains("noprocess")) processes();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hello: done")));
        System.exit(7);
    }
}
