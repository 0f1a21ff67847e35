/* Sockets between processes and threads: rights, ports that are shared, several datagrams
 * in a call, errors that wait. */
#include "conf.h"

static struct sockaddr_in loop(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

static int udp(struct sockaddr_in *a)
{
	socklen_t n = sizeof *a;
	int s = Q(socket(AF_INET, SOCK_DGRAM, 0));
	*a = loop(0);
	Q(bind(s, (void *)a, sizeof *a));
	Q(getsockname(s, (void *)a, &n));
	return s;
}

static void until_readable(int fd)
{
	struct pollfd f = {fd, POLLIN, 0};
	Q(poll(&f, 1, 2000));
}

/* pass sends n descriptors with one byte. */
static long pass(int s, int *fds, int n)
{
	char ctl[CMSG_SPACE(300 * sizeof(int))] = {0};
	struct iovec v = {"r", 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = CMSG_SPACE(n * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	return sendmsg(s, &m, 0);
}

/* take receives with room for n of them and says how many there were. */
static int take(int s, int *fds, int n, int flags)
{
	char ctl[CMSG_SPACE(300 * sizeof(int))], b[10];
	struct iovec v = {b, 10};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = n ? CMSG_LEN(n * sizeof(int)) : 0};
	long r = recvmsg(s, &m, flags);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int k = c ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
	out("%ld bytes, %d descriptors, truncated %d", r, k, !!(m.msg_flags & MSG_CTRUNC));
	if (k)
		memcpy(fds, CMSG_DATA(c), k * sizeof(int));
	return k;
}

CASE(sock_rights_limits)
{
	int s[2], p[2], fds[300];
	char b[10] = {0};
	Q(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	Q(pipe(p));
	for (int i = 0; i < 300; i++)
		fds[i] = p[i % 2];
	R(pass(s[0], fds, 253));
	R(pass(s[0], fds, 254));
	R(pass(s[0], (int[]){99}, 1));
	int k = take(s[1], fds, 253, 0);
	for (int i = 0; i < k; i++)
		close(fds[i]);
	R(pass(s[0], p, 2));
	k = take(s[1], fds, 1, 0);
	R(pass(s[0], p, 2));
	take(s[1], fds, 0, 0); /* they are gone */
	R(pass(s[0], p, 2));
	k = take(s[1], fds, 2, MSG_PEEK);
	k = take(s[1], fds + 2, 2, 0);
	out("different %d", fds[0] != fds[2]);
	Q(write(fds[1], "peeked", 6));
	R(read(fds[2], b, 10));
	out("%s", b);
	R(pass(s[0], s, 2)); /* itself */
	close(s[0]);
	close(s[1]);
	int d[2];
	Q(socketpair(AF_UNIX, SOCK_DGRAM, 0, d));
	R(pass(d[0], p, 2));
	R(read(d[1], b, 10)); /* without a place for them */
}

CASE(sock_rights_process)
{
	int s[2], fd;
	char b[20] = {0};
	Q(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
	if (fork() == 0) {
		put_file("f", "from the child");
		fd = Q(open("f", O_RDONLY));
		Q(lseek(fd, 5, SEEK_SET));
		Q(pass(s[0], &fd, 1));
		_exit(0);
	}
	wait(0);
	close(s[0]);
	take(s[1], &fd, 1, 0);
	R(read(fd, b, 20));
	out("%s", b);
	R(take(s[1], &fd, 1, 0)); /* its end */
}

CASE(sock_reuseport_udp)
{
	struct sockaddr_in a = loop(0), from;
	socklen_t n = sizeof a;
	int on = 1, s[3], total = 0;
	for (int i = 0; i < 3; i++) {
		s[i] = Q(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
		Q(setsockopt(s[i], SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
		R(bind(s[i], (void *)&a, sizeof a));
		Q(getsockname(s[i], (void *)&a, &n));
	}
	int x = Q(socket(AF_INET, SOCK_DGRAM, 0));
	R(bind(x, (void *)&a, sizeof a));
	int apart = 0;
	for (int k = 0; k < 30; k++) {
		int c = udp(&from), got[3] = {0};
		Q(connect(c, (void *)&a, sizeof a));
		for (int i = 0; i < 4; i++)
			Q(send(c, "x", 1, 0));
		char b[10];
		int sum = 0;
		for (int w = 0; w < 500 && sum < 4; w++) {
			for (int i = 0; i < 3; i++)
				while (recv(s[i], b, 10, 0) == 1)
					got[i]++, sum++;
			if (sum < 4)
				sleep_ms(1);
		}
		total += sum;
		apart += got[0] != 4 && got[1] != 4 && got[2] != 4;
		close(c);
	}
	out("%d came, %d sources were not kept together", total, apart);
}

CASE(sock_reuseport_tcp)
{
	struct sockaddr_in a = loop(0);
	socklen_t n = sizeof a;
	int on = 1, s[3], total = 0;
	for (int i = 0; i < 3; i++) {
		s[i] = Q(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
		Q(setsockopt(s[i], SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
		R(bind(s[i], (void *)&a, sizeof a));
		Q(getsockname(s[i], (void *)&a, &n));
		R(listen(s[i], 100));
	}
	int used = 0, got[3] = {0};
	for (int k = 0; k < 40; k++) {
		int c = Q(socket(AF_INET, SOCK_STREAM, 0));
		Q(connect(c, (void *)&a, sizeof a));
	}
	for (int w = 0; w < 1000 && total < 40; w++) {
		for (int i = 0; i < 3; i++)
			while (accept(s[i], 0, 0) >= 0)
				got[i]++, total++;
		if (total < 40)
			sleep_ms(1);
	}
	for (int i = 0; i < 3; i++)
		used += got[i] > 0;
	out("%d came, to several %d", total, used > 1);
}

CASE(sock_recvmmsg_timeout)
{
	struct sockaddr_in a;
	int s = udp(&a), c = Q(socket(AF_INET, SOCK_DGRAM, 0));
	char b[4][10];
	struct iovec v[4];
	struct mmsghdr m[4];
	Q(connect(c, (void *)&a, sizeof a));
#define FRESH memset(m, 0, sizeof m); for (int i = 0; i < 4; i++) v[i] = (struct iovec){b[i], 10}, m[i].msg_hdr.msg_iov = &v[i], m[i].msg_hdr.msg_iovlen = 1
	struct timespec t = {0, 50000000};
	FRESH;
	R(recvmmsg(s, m, 4, MSG_DONTWAIT, 0));
	Q(send(c, "a", 1, 0));
	Q(send(c, "bb", 2, 0));
	until_readable(s);
	sleep_ms(50);
	R(recvmmsg(s, m, 4, MSG_DONTWAIT, 0));
	out("%d %d", m[0].msg_len, m[1].msg_len);
	Q(send(c, "ccc", 3, 0));
	until_readable(s);
	FRESH;
	R(recvmmsg(s, m, 4, MSG_WAITFORONE, &t));
	Q(send(c, "1", 1, 0));
	Q(send(c, "2", 1, 0));
	until_readable(s);
	sleep_ms(50);
	t = (struct timespec){0, 0}; /* over after the first */
	FRESH;
	R(recvmmsg(s, m, 4, 0, &t));
	out("%ld.%09ld left", (long)t.tv_sec, t.tv_nsec);
	R(recv(s, b[0], 10, MSG_DONTWAIT));
	t.tv_nsec = -1;
	R(recvmmsg(s, m, 4, 0, &t));
	R(recvmmsg(s, m, 0, MSG_DONTWAIT, 0));
	R(recvmmsg(s, (void *)8, 1, MSG_DONTWAIT, 0) < 0);
	R(sendmmsg(c, m, 0, 0));
	struct timeval tv = {0, 30000};
	Q(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	FRESH;
	R(recvmmsg(s, m, 4, 0, 0));
}

CASE(sock_udp_refused)
{
	struct sockaddr_in a;
	int s = udp(&a), c = Q(socket(AF_INET, SOCK_DGRAM, 0)), e = 9;
	socklen_t n = sizeof e;
	close(s);
	Q(connect(c, (void *)&a, sizeof a));
	Q(send(c, "x", 1, 0));
	struct pollfd f = {c, POLLIN, 0};
	R(poll(&f, 1, 2000));
	out("revents %x", f.revents);
	R(getsockopt(c, SOL_SOCKET, SO_ERROR, &e, &n));
	out("%s", strerrorname_np(e));
	R(getsockopt(c, SOL_SOCKET, SO_ERROR, &e, &n));
	out("%d", e);
	Q(send(c, "x", 1, 0));
	Q(poll(&f, 1, 2000));
	char b[10];
	R(recv(c, b, 10, MSG_DONTWAIT));
	R(recv(c, b, 10, MSG_DONTWAIT));
	int u = Q(socket(AF_INET, SOCK_DGRAM, 0)); /* not connected: nobody tells it */
	R(sendto(u, "x", 1, 0, (void *)&a, sizeof a));
	sleep_ms(30);
	R(sendto(u, "x", 1, 0, (void *)&a, sizeof a));
}

CASE(sock_unix_ends)
{
	int s[2];
	char b[10];
	struct pollfd f;
	Q(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	Q(write(s[0], "unread", 6));
	close(s[1]);
	R(read(s[0], b, 10)); /* what it has not read is lost */
	R(read(s[0], b, 10));
	Q(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	R(shutdown(s[0], SHUT_RD));
	R(send(s[1], "x", 1, MSG_NOSIGNAL));
	R(read(s[0], b, 10));
	f = (struct pollfd){s[1], POLLIN | POLLOUT | POLLRDHUP, 0};
	R(poll(&f, 1, 0));
	out("revents %x", f.revents);
	Q(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
	Q(send(s[0], "kept", 4, 0));
	close(s[0]);
	R(recv(s[1], b, 10, MSG_DONTWAIT));
	R(recv(s[1], b, 10, MSG_DONTWAIT));
	R(send(s[1], "x", 1, MSG_NOSIGNAL));
	Q(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
	R(send(s[0], "", 0, 0));
	R(recv(s[1], b, 10, MSG_DONTWAIT));
	R(recv(s[1], b, 10, MSG_DONTWAIT));
	close(s[0]);
	R(recv(s[1], b, 10, 0));
	R(send(s[1], "x", 1, MSG_NOSIGNAL));
	struct sockaddr_un a = {AF_UNIX, "dgram"};
	int d = Q(socket(AF_UNIX, SOCK_DGRAM, 0)), e = Q(socket(AF_UNIX, SOCK_DGRAM, 0));
	Q(bind(d, (void *)&a, sizeof a));
	Q(connect(e, (void *)&a, sizeof a));
	R(send(e, "x", 1, 0));
	close(d);
	R(send(e, "x", 1, 0));
	R(send(e, "x", 1, 0));
	R(connect(e, (void *)&a, sizeof a));
}

CASE(sock_v6only)
{
	int s = socket(AF_INET6, SOCK_DGRAM, 0), v = 9;
	if (s < 0) {
		out("%s", strerrorname_np(errno));
		return;
	}
	socklen_t n = sizeof v;
	struct sockaddr_in6 a = {.sin6_family = AF_INET6};
	struct sockaddr_in b = loop(9);
#define ONLY(s) n = sizeof v; Q(getsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &v, &n)); out("only %d", v)
	ONLY(s);
	R(bind(s, (void *)&a, sizeof a));
	ONLY(s);
	R(setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, 4));
	s = Q(socket(AF_INET6, SOCK_DGRAM, 0));
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.sin6_addr);
	R(bind(s, (void *)&a, sizeof a));
	ONLY(s);
	s = Q(socket(AF_INET6, SOCK_DGRAM, 0));
	inet_pton(AF_INET6, "::1", &a.sin6_addr);
	R(bind(s, (void *)&a, sizeof a));
	ONLY(s);
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.sin6_addr);
	a.sin6_port = htons(9);
	R(connect(s, (void *)&a, sizeof a));
	R(bind(s, (void *)&b, sizeof b));
}
