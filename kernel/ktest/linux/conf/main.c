/* conf runs the cases of the conformance set.
 *
 *   conf            all cases
 *   conf list       their names
 *   conf NAME...    those whose name begins with one of these
 *
 * For each it prints "== name", the case's lines with "| " in front, and "-- " with how
 * its process ended. Start reading at conf.h. */
#include "conf.h"

static struct conf_case *cases;

void conf_register(struct conf_case *c)
{
	struct conf_case **p = &cases;
	while (*p && strcmp((*p)->name, c->name) < 0)
		p = &(*p)->next;
	c->next = *p;
	*p = c;
}

void out(const char *fmt, ...)
{
	char b[2000];
	int n = snprintf(b, sizeof b, "| ");
	va_list a;
	va_start(a, fmt);
	n += vsnprintf(b + n, sizeof b - n - 1, fmt, a);
	va_end(a);
	if (n > (int)sizeof b - 2)
		n = sizeof b - 2;
	b[n++] = '\n';
	for (int off = 0; off < n;) {
		int w = write(1, b + off, n - off);
		if (w <= 0)
			_exit(4);
		off += w;
	}
}

long result(const char *call, long r, int err)
{
	if (r == -1 && err)
		out("%s = %s", call, strerrorname_np(err) ? strerrorname_np(err) : "unknown error");
	else
		out("%s = %ld", call, r);
	return r;
}

long ms_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void sleep_ms(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};
	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

void put_file(const char *path, const char *text)
{
	int fd = Q(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
	Q(write(fd, text, strlen(text)));
	close(fd);
}

void show_file(const char *path)
{
	char b[200];
	int fd = open(path, O_RDONLY);
	if (fd < 0) {
		out("%s: %s", path, strerrorname_np(errno));
		return;
	}
	int n = read(fd, b, sizeof b - 1);
	close(fd);
	b[n < 0 ? 0 : n] = 0;
	out("%s: \"%s\"", path, b);
}

static int remove_all(const char *dir)
{
	DIR *d = opendir(dir);
	if (!d)
		return -1;
	struct dirent *e;
	while ((e = readdir(d))) {
		char p[4096];
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(p, sizeof p, "%s/%s", dir, e->d_name);
		struct stat st;
		if (lstat(p, &st) == 0 && S_ISDIR(st.st_mode)) {
			chmod(p, 0700);
			remove_all(p);
		} else
			unlink(p);
	}
	closedir(d);
	return rmdir(dir);
}

/* run_one runs a case in a child, in a directory of its own. */
static void run_one(struct conf_case *c)
{
	char dir[] = "/var/tmp/conf.XXXXXX";
	printf("== %s\n", c->name);
	fflush(stdout);
	if (!mkdtemp(dir)) {
		printf("-- mkdtemp: %s\n", strerrorname_np(errno));
		return;
	}
	chmod(dir, 0755);
	pid_t p = fork();
	if (p < 0) {
		printf("-- fork: %s\n", strerrorname_np(errno));
		return;
	}
	if (p == 0) {
		setpgid(0, 0);
		if (chdir(dir) < 0)
			_exit(5);
		umask(022);
		alarm(30);
		c->run();
		_exit(0);
	}
	int st = 0;
	while (waitpid(p, &st, 0) < 0 && errno == EINTR)
		;
	kill(-p, SIGKILL);
	remove_all(dir);
	if (WIFEXITED(st))
		printf("-- exit %d\n", WEXITSTATUS(st));
	else
		printf("-- signal %d\n", WTERMSIG(st));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "exec-helper")) { /* the other half of exec_* */
		for (int i = 2; i < argc; i++)
			out("argv[%d] = %s", i, argv[i]);
		out("X = %s", getenv("X") ? getenv("X") : "unset");
		for (int fd = 10; fd < 13; fd++)
			out("fd %d is %s", fd, fcntl(fd, F_GETFD) < 0 ? "closed" : "open");
		struct sigaction sa;
		sigaction(SIGUSR1, 0, &sa);
		out("SIGUSR1 is %s", sa.sa_handler == SIG_DFL ? "default" : sa.sa_handler == SIG_IGN ? "ignored" : "caught");
		sigaction(SIGUSR2, 0, &sa);
		out("SIGUSR2 is %s", sa.sa_handler == SIG_DFL ? "default" : sa.sa_handler == SIG_IGN ? "ignored" : "caught");
		sigset_t s;
		sigprocmask(SIG_BLOCK, 0, &s);
		out("SIGHUP is %s", sigismember(&s, SIGHUP) ? "blocked" : "not blocked");
		return 7;
	}
	setvbuf(stdout, 0, _IOLBF, 0);
	syscall(SYS_close_range, 3, ~0U, 0); /* whatever the caller left open */
	signal(SIGPIPE, SIG_DFL);
	setpriority(PRIO_PROCESS, 0, 0); /* nor how nice it was */
	int n = 0;
	for (struct conf_case *c = cases; c; c = c->next) {
		int want = argc == 1;
		for (int i = 1; i < argc; i++)
			if (!strcmp(argv[i], "list"))
				puts(c->name);
			else if (!strncmp(argv[i], c->name, strlen(argv[i])))
				want = 1;
		if (want) {
			run_one(c);
			n++;
		}
	}
	printf("conf: %d cases\n", n);
	return 0;
}
