import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

/** An HTTP server of the JDK: /hello, /big (N bytes), /gc. */
public class Serve {
    public static void main(String[] args) throws Exception {
        HttpServer s = HttpServer.create(new InetSocketAddress(8080), 128);
        s.setExecutor(Executors.newFixedThreadPool(16));
        s.createContext("/hello", x -> {
            byte[] b = "hello from the JVM\n".getBytes();
            x.sendResponseHeaders(200, b.length);
            try (var o = x.getResponseBody()) { o.write(b); }
        });
        s.createContext("/big", x -> {
            byte[] b = new byte[Integer.parseInt(x.getRequestURI().getQuery())];
            for (int i = 0; i < b.length; i++) b[i] = (byte) ('a' + i % 26);
            x.sendResponseHeaders(200, b.length);
            try (var o = x.getResponseBody()) { o.write(b); }
        });
        s.createContext("/echo", x -> {
            x.sendResponseHeaders(200, 0);
            try (var o = x.getResponseBody()) { x.getRequestBody().transferTo(o); }
        });
        s.start();
        System.out.println("serve: ready");
    }
}
