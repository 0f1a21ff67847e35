/* Sockets: TCP and UDP on the loopback interface, AF_UNIX. */
#include "conf.h"

static struct sockaddr_in at(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

/* listener is a listening TCP socket, with its address. */
static int listener(struct sockaddr_in *a)
{
	socklen_t n = sizeof *a;
	int s = Q(socket(AF_INET, SOCK_STREAM, 0));
	*a = at(0);
	Q(bind(s, (void *)a, sizeof *a));
	Q(listen(s, 5));
	Q(getsockname(s, (void *)a, &n));
	return s;
}

/* tcp_pair is a connection. */
static void tcp_pair(int p[2])
{
	struct sockaddr_in a;
	int l = listener(&a);
	p[0] = Q(socket(AF_INET, SOCK_STREAM, 0));
	Q(connect(p[0], (void *)&a, sizeof a));
	p[1] = Q(accept(l, 0, 0));
	close(l);
}

CASE(net_socket_errors)
{
	R(socket(99, SOCK_STREAM, 0));
	R(socket(AF_INET, 99, 0));
	R(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
	int s = Q(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in a = at(1);
	char b[10];
	R(connect(s, (void *)&a, 3));
	R(connect(s, (void *)&a, sizeof a));
	R(listen(99, 1));
	R(accept(s, 0, 0));
	R(send(s, "x", 1, MSG_NOSIGNAL));
	R(recv(s, b, 10, 0));
	R(shutdown(s, SHUT_RD));
	R(getpeername(s, (void *)&a, &(socklen_t){sizeof a}));
	R(bind(0, (void *)&a, sizeof a));
	R(getsockopt(s, SOL_SOCKET, 9999, b, &(socklen_t){4}));
	R(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, b, 1));
	R(lseek(s, 0, SEEK_SET));
}

CASE(net_tcp_stream)
{
	int p[2];
	char b[100] = {0};
	tcp_pair(p);
	R(write(p[0], "hello", 5));
	R(read(p[1], b, 100));
	R(send(p[1], "world!", 6, 0));
	R(recv(p[0], b, 3, MSG_PEEK));
	R(recv(p[0], b, 100, 0));
	out("%s", b);
	R(recv(p[0], b, 1, MSG_DONTWAIT));
	struct iovec v[] = {{"a", 1}, {"bc", 2}};
	R(writev(p[0], v, 2));
	R(recv(p[1], b, 3, MSG_WAITALL));
	R(shutdown(p[0], SHUT_WR));
	R(read(p[1], b, 1));
	R(write(p[1], "after", 5));
	R(read(p[0], b, 10));
	R(send(p[0], "x", 1, MSG_NOSIGNAL));
	close(p[1]);
	R(read(p[0], b, 1));
}

CASE(net_tcp_accept)
{
	struct sockaddr_in a, peer, own;
	int l = listener(&a);
	fcntl(l, F_SETFL, O_NONBLOCK);
	R(accept(l, 0, 0));
	int c = Q(socket(AF_INET, SOCK_STREAM, 0));
	R(connect(c, (void *)&a, sizeof a));
	struct pollfd f = {l, POLLIN, 0};
	R(poll(&f, 1, 1000));
	socklen_t n = sizeof peer;
	int s = F(accept4(l, (void *)&peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC));
	out("family %d length %d", peer.sin_family, n);
	Q(getsockname(c, (void *)&own, &n));
	out("same %d", own.sin_port == peer.sin_port && own.sin_addr.s_addr == peer.sin_addr.s_addr);
	R(fcntl(s, F_GETFL) & O_NONBLOCK);
	R(fcntl(s, F_GETFD));
	R(connect(c, (void *)&a, sizeof a));
	R(accept4(l, 0, 0, 1));
	int d = Q(socket(AF_INET, SOCK_STREAM, 0));
	R(bind(d, (void *)&a, sizeof a));
}

CASE(net_tcp_refused)
{
	struct sockaddr_in a;
	int l = listener(&a), c = Q(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)), e = 0;
	close(l);
	long r = connect(c, (void *)&a, sizeof a);
	out("%s", r == 0 ? "0" : errno == EINPROGRESS || errno == ECONNREFUSED ? "under way or refused" : strerrorname_np(errno));
	struct pollfd f = {c, POLLOUT, 0};
	R(poll(&f, 1, 1000));
	socklen_t n = sizeof e;
	Q(getsockopt(c, SOL_SOCKET, SO_ERROR, &e, &n));
	out("SO_ERROR ok %d", e == ECONNREFUSED || e == 0);
	int b = Q(socket(AF_INET, SOCK_STREAM, 0));
	R(connect(b, (void *)&a, sizeof a));
}

CASE(net_tcp_nonblocking_connect)
{
	struct sockaddr_in a;
	int e = -1, l = listener(&a), c = Q(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	socklen_t n = sizeof e;
	long r = connect(c, (void *)&a, sizeof a);
	out("%d", r == 0 || errno == EINPROGRESS);
	struct pollfd f = {c, POLLOUT, 0};
	R(poll(&f, 1, 1000));
	Q(getsockopt(c, SOL_SOCKET, SO_ERROR, &e, &n));
	out("SO_ERROR %d", e);
	F(accept(l, 0, 0));
	char b[1];
	R(read(c, b, 1));
}

CASE(net_tcp_reset)
{
	int p[2];
	char b[10];
	struct linger g = {1, 0};
	tcp_pair(p);
	R(setsockopt(p[0], SOL_SOCKET, SO_LINGER, &g, sizeof g));
	close(p[0]);
	struct pollfd f = {p[1], POLLIN, 0};
	R(poll(&f, 1, 1000));
	out("revents %x", f.revents);
	R(read(p[1], b, 10));
	R(read(p[1], b, 10));
	R(send(p[1], "x", 1, MSG_NOSIGNAL));
}

CASE(net_tcp_epipe)
{
	int p[2];
	tcp_pair(p);
	R(shutdown(p[0], SHUT_WR));
	signal(SIGPIPE, SIG_IGN);
	R(write(p[0], "x", 1));
	signal(SIGPIPE, SIG_DFL);
	R(send(p[0], "x", 1, MSG_NOSIGNAL));
	if (fork() == 0) {
		write(p[0], "x", 1);
		_exit(0);
	}
	int st;
	wait(&st);
	out("signal %d", WTERMSIG(st));
}

static void *drain(void *fd)
{
	static char b[65536];
	long sum = 0, n;
	while ((n = read((long)fd, b, sizeof b)) > 0)
		for (long i = 0; i < n; i++)
			sum += (unsigned char)b[i];
	return (void *)sum;
}

CASE(net_tcp_bulk)
{
	int p[2];
	pthread_t t;
	static char b[100000];
	long sum = 0;
	void *got;
	tcp_pair(p);
	pthread_create(&t, 0, drain, (void *)(long)p[1]);
	for (int i = 0; i < 100000; i++)
		b[i] = i * 7;
	for (int k = 0; k < 40; k++) {
		int n = 0;
		while (n < 100000)
			n += Q(write(p[0], b + n, 100000 - n));
		for (int i = 0; i < 100000; i++)
			sum += (unsigned char)b[i];
	}
	shutdown(p[0], SHUT_WR);
	pthread_join(t, &got);
	out("the same sum %d", (long)got == sum);
}

CASE(net_tcp_full)
{
	int p[2];
	static char b[65536];
	long n = 0, r;
	tcp_pair(p);
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	while ((r = write(p[0], b, sizeof b)) > 0)
		n += r;
	out("%s, more than nothing %d", strerrorname_np(errno), n > 0);
	struct pollfd f = {p[0], POLLOUT, 0};
	R(poll(&f, 1, 0));
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	long got = 0;
	for (int i = 0; i < 200 && got < n; i++) {
		while ((r = read(p[1], b, sizeof b)) > 0)
			got += r;
		sleep_ms(5);
	}
	out("all came %d", got == n);
	R(poll(&f, 1, 1000));
}

CASE(net_tcp_options)
{
	int p[2], v;
	socklen_t n = sizeof v;
	tcp_pair(p);
#define SET(l, o, x) v = x; R(setsockopt(p[0], l, o, &v, sizeof v))
#define GET(l, o) v = -1; n = sizeof v; R(getsockopt(p[0], l, o, &v, &n)); out("%d", v)
	GET(IPPROTO_TCP, TCP_NODELAY);
	SET(IPPROTO_TCP, TCP_NODELAY, 1);
	GET(IPPROTO_TCP, TCP_NODELAY);
	SET(SOL_SOCKET, SO_KEEPALIVE, 1);
	GET(SOL_SOCKET, SO_KEEPALIVE);
	SET(IPPROTO_TCP, TCP_KEEPIDLE, 33);
	GET(IPPROTO_TCP, TCP_KEEPIDLE);
	SET(IPPROTO_TCP, TCP_KEEPINTVL, 12);
	GET(IPPROTO_TCP, TCP_KEEPINTVL);
	SET(IPPROTO_TCP, TCP_KEEPCNT, 4);
	GET(IPPROTO_TCP, TCP_KEEPCNT);
	GET(SOL_SOCKET, SO_TYPE);
	GET(SOL_SOCKET, SO_DOMAIN);
	GET(SOL_SOCKET, SO_PROTOCOL);
	GET(SOL_SOCKET, SO_ACCEPTCONN);
	GET(SOL_SOCKET, SO_ERROR);
	SET(SOL_SOCKET, SO_REUSEADDR, 1);
	GET(SOL_SOCKET, SO_REUSEADDR);
	SET(SOL_SOCKET, SO_RCVBUF, 100000);
	GET(SOL_SOCKET, SO_RCVBUF);
	struct tcp_info ti;
	n = sizeof ti;
	R(getsockopt(p[0], IPPROTO_TCP, TCP_INFO, &ti, &n));
	out("state %d", ti.tcpi_state);
	SET(IPPROTO_TCP, 9999, 1);
	SET(99, 1, 1);
}

CASE(net_tcp_timeout)
{
	int p[2];
	char b;
	struct timeval t = {0, 50000};
	tcp_pair(p);
	R(setsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
	long m = ms_now();
	R(read(p[0], &b, 1));
	m = ms_now() - m;
	out("waited %d", m >= 45 && m < 3000);
}

static void *closer(void *l)
{
	sleep_ms(50);
	shutdown((long)l, SHUT_RDWR);
	return 0;
}

CASE(net_tcp_shutdown_wakes)
{
	int p[2];
	char b;
	pthread_t t;
	struct sockaddr_in a;
	tcp_pair(p);
	pthread_create(&t, 0, closer, (void *)(long)p[0]);
	R(read(p[0], &b, 1));
	pthread_join(t, 0);
	int l = listener(&a);
	pthread_create(&t, 0, closer, (void *)(long)l);
	R(accept(l, 0, 0));
	pthread_join(t, 0);
}

CASE(net_udp)
{
	struct sockaddr_in a = at(0), from;
	socklen_t n = sizeof a;
	char b[100] = {0};
	int s = Q(socket(AF_INET, SOCK_DGRAM, 0)), c = Q(socket(AF_INET, SOCK_DGRAM, 0));
	Q(bind(s, (void *)&a, sizeof a));
	Q(getsockname(s, (void *)&a, &n));
	R(sendto(c, "one", 3, 0, (void *)&a, sizeof a));
	R(sendto(c, "two two", 7, 0, (void *)&a, sizeof a));
	R(sendto(c, "", 0, 0, (void *)&a, sizeof a));
	R(recvfrom(s, b, 100, 0, (void *)&from, &n));
	R(recvfrom(s, b, 3, MSG_TRUNC, 0, 0));
	R(recvfrom(s, b, 100, 0, 0, 0));
	R(recvfrom(s, b, 100, MSG_DONTWAIT, 0, 0));
	R(sendto(s, "back", 4, 0, (void *)&from, sizeof from));
	R(recv(c, b, 100, 0));
	R(connect(c, (void *)&a, sizeof a));
	R(send(c, "conn", 4, 0));
	R(read(s, b, 100));
	static char big[70000];
	R(send(c, big, 70000, 0));
	R(send(c, big, 60000, 0));
	R(recv(s, big, 70000, 0));
	close(s);
	R(send(c, "x", 1, 0));
	sleep_ms(50);
	R(send(c, "x", 1, 0));
	a.sin_family = AF_UNSPEC;
	R(connect(c, (void *)&a, sizeof a));
	R(send(c, "x", 1, 0));
}

CASE(net_udp_mmsg)
{
	struct sockaddr_in a = at(0);
	socklen_t n = sizeof a;
	int s = Q(socket(AF_INET, SOCK_DGRAM, 0)), c = Q(socket(AF_INET, SOCK_DGRAM, 0));
	Q(bind(s, (void *)&a, sizeof a));
	Q(getsockname(s, (void *)&a, &n));
	Q(connect(c, (void *)&a, n));
	struct iovec v[3] = {{"a", 1}, {"bb", 2}, {"ccc", 3}};
	struct mmsghdr m[3] = {0};
	for (int i = 0; i < 3; i++)
		m[i].msg_hdr.msg_iov = &v[i], m[i].msg_hdr.msg_iovlen = 1;
	R(sendmmsg(c, m, 3, 0));
	out("%d %d %d", m[0].msg_len, m[1].msg_len, m[2].msg_len);
	char b[3][10];
	for (int i = 0; i < 3; i++)
		v[i] = (struct iovec){b[i], 10}, m[i].msg_len = 0;
	sleep_ms(100); /* the way may be one of another thread */
	R(recvmmsg(s, m, 3, MSG_WAITFORONE, 0));
	out("%d %d %d", m[0].msg_len, m[1].msg_len, m[2].msg_len);
}

CASE(net_unix_pair)
{
	int p[2];
	char b[10] = {0};
	R(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p));
	R(write(p[0], "abc", 3));
	R(read(p[1], b, 2));
	R(read(p[1], b, 10));
	R(fcntl(p[0], F_GETFD));
	close(p[1]);
	R(read(p[0], b, 1));
	R(send(p[0], "x", 1, MSG_NOSIGNAL));
	Q(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p));
	R(send(p[0], "12345", 5, 0));
	R(send(p[0], "67", 2, 0));
	R(recv(p[1], b, 3, 0));
	R(recv(p[1], b, 10, 0));
	Q(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	R(send(p[0], "12345", 5, 0));
	R(recv(p[1], b, 3, MSG_TRUNC));
	R(socketpair(AF_INET, SOCK_STREAM, 0, p));
}

CASE(net_unix_named)
{
	struct sockaddr_un a = {AF_UNIX, "sock"}, got;
	socklen_t n = sizeof got;
	struct stat st;
	char b[10];
	int l = Q(socket(AF_UNIX, SOCK_STREAM, 0)), c = Q(socket(AF_UNIX, SOCK_STREAM, 0));
	R(connect(c, (void *)&a, sizeof a));
	R(bind(l, (void *)&a, sizeof a));
	R(connect(c, (void *)&a, sizeof a));
	R(listen(l, 1));
	Q(stat("sock", &st));
	out("socket %d", S_ISSOCK(st.st_mode));
	R(connect(c, (void *)&a, sizeof a));
	int s = F(accept(l, (void *)&got, &n));
	out("peer length %d", n);
	n = sizeof got;
	Q(getsockname(l, (void *)&got, &n));
	out("%s %d", got.sun_path, n);
	R(write(c, "x", 1));
	R(read(s, b, 10));
	struct ucred u;
	n = sizeof u;
	R(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &n));
	out("me %d uid %d", u.pid == getpid(), u.uid);
	int d = Q(socket(AF_UNIX, SOCK_STREAM, 0));
	R(bind(d, (void *)&a, sizeof a));
	R(open("sock", O_RDWR));
	unlink("sock");
	R(connect(d, (void *)&a, sizeof a));
	struct sockaddr_un abs = {AF_UNIX, "\0conf-abstract"};
	int e = Q(socket(AF_UNIX, SOCK_DGRAM, 0)), f = Q(socket(AF_UNIX, SOCK_DGRAM, 0));
	R(bind(e, (void *)&abs, sizeof(sa_family_t) + 14));
	R(sendto(f, "hi", 2, 0, (void *)&abs, sizeof(sa_family_t) + 14));
	R(recv(e, b, 10, 0));
}

CASE(net_unix_rights)
{
	int p[2], q[2];
	char b[10] = {0}, ctl[CMSG_SPACE(2 * sizeof(int))];
	Q(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
	Q(pipe(q));
	struct iovec v = {"m", 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(2 * sizeof(int));
	memcpy(CMSG_DATA(c), q, sizeof q);
	R(sendmsg(p[0], &m, 0));
	close(q[0]);
	close(q[1]);
	v = (struct iovec){b, 10};
	memset(ctl, 0, sizeof ctl);
	m.msg_controllen = sizeof ctl;
	R(recvmsg(p[1], &m, MSG_CMSG_CLOEXEC));
	c = CMSG_FIRSTHDR(&m);
	out("level %d type %d length %d flags %x", c->cmsg_level, c->cmsg_type, (int)c->cmsg_len, m.msg_flags & ~MSG_CMSG_CLOEXEC);
	memcpy(q, CMSG_DATA(c), sizeof q);
	R(write(q[1], "through", 7));
	R(read(q[0], b, 10));
	out("%s", b);
	R(fcntl(q[0], F_GETFD));
}

CASE(net_unix_creds)
{
	int p[2], on = 1;
	char b[10], ctl[200];
	Q(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	R(setsockopt(p[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
	R(send(p[0], "x", 1, 0));
	struct iovec v = {b, 10};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl};
	R(recvmsg(p[1], &m, 0));
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	struct ucred *u = (void *)CMSG_DATA(c);
	out("type %d me %d %d:%d", c->cmsg_type, u->pid == getpid(), u->uid, u->gid);
}

CASE(net_dup_over_blocked)
{
	int p[2], q[2];
	char b;
	pthread_t t;
	tcp_pair(p);
	Q(socketpair(AF_UNIX, SOCK_STREAM, 0, q));
	shutdown(q[0], SHUT_RDWR);
	pthread_create(&t, 0, closer, (void *)(long)p[1]);
	R(dup2(q[0], p[0]) == p[0]);
	R(read(p[0], &b, 1));
	pthread_join(t, 0);
}

CASE(net_ioctl)
{
	int p[2], v = 0;
	tcp_pair(p);
	Q(write(p[0], "12345", 5));
	struct pollfd f = {p[1], POLLIN, 0};
	Q(poll(&f, 1, 1000));
	R(ioctl(p[1], FIONREAD, &v));
	out("%d", v);
	v = 1;
	R(ioctl(p[1], FIONBIO, &v));
	R(fcntl(p[1], F_GETFL) & O_NONBLOCK);
	char b[10];
	R(read(p[1], b, 10));
	R(read(p[1], b, 10));
	R(ioctl(p[1], 0xdead, &v));
}

CASE(net_tcp6)
{
	int s = socket(AF_INET6, SOCK_STREAM, 0);
	if (s < 0) {
		out("%s", strerrorname_np(errno));
		return;
	}
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t n = sizeof a;
	R(bind(s, (void *)&a, sizeof a));
	R(listen(s, 1));
	Q(getsockname(s, (void *)&a, &n));
	int c = Q(socket(AF_INET6, SOCK_STREAM, 0));
	R(connect(c, (void *)&a, sizeof a));
	F(accept(s, 0, 0));
	int v;
	n = sizeof v;
	R(getsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &v, &n));
	out("%d", v);
}

CASE(net_tcp6_mapped)
{
	int s = socket(AF_INET6, SOCK_STREAM, 0);
	if (s < 0) {
		out("%s", strerrorname_np(errno));
		return;
	}
	struct sockaddr_in6 a = {.sin6_family = AF_INET6}, peer;
	socklen_t n = sizeof a;
	Q(bind(s, (void *)&a, sizeof a));
	Q(listen(s, 1));
	Q(getsockname(s, (void *)&a, &n));
	struct sockaddr_in b = at(ntohs(a.sin6_port));
	int c = Q(socket(AF_INET, SOCK_STREAM, 0));
	R(connect(c, (void *)&b, sizeof b));
	n = sizeof peer;
	F(accept(s, (void *)&peer, &n));
	out("mapped %d length %d", IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr), n);
}

CASE(net_reuseport)
{
	struct sockaddr_in a = at(0);
	socklen_t n = sizeof a;
	int on = 1, s = Q(socket(AF_INET, SOCK_STREAM, 0)), t = Q(socket(AF_INET, SOCK_STREAM, 0)), u = Q(socket(AF_INET, SOCK_STREAM, 0));
	R(setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
	R(setsockopt(t, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
	Q(bind(s, (void *)&a, sizeof a));
	Q(getsockname(s, (void *)&a, &n));
	R(bind(t, (void *)&a, n));
	R(bind(u, (void *)&a, n));
	R(listen(s, 1));
	R(listen(t, 1));
}
