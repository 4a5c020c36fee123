/* SPDX-License-Identifier: MIT */
/* qmp.c - QMP with servers that are odd, hostile, slow or dead */
#include "vm/qmp.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "tap.h"

#define GREETING \
	"{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n"
#define EMPTY	"{\"return\": {}}\r\n"
#define EVENT	"{\"timestamp\": {}, \"event\": \"STOP\"}\r\n"

static char path[64];

/* err: what the user would have been told. */
static void judge(bool good, const char *what, const char *err)
{
	okf(good, "%s (%s)", what, err);
}

static int listen_here(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(fd, 0) < 0) {
		printf("Bail out! cannot listen\n");
		exit(1);
	}
	return fd;
}

enum ending { CLOSES, HANGS, REPEATS };

/*
 * A server that says the first words at once and each of the others after a
 * line was heard, then closes, hangs, or says the last one over and over.
 */
static pid_t serve(const char *const *words, size_t n, enum ending ending)
{
	int fd = listen_here();
	pid_t pid = fork();
	int c;

	if (pid) {
		close(fd);
		return pid;
	}
	signal(SIGPIPE, SIG_DFL);
	c = accept(fd, NULL, NULL);
	for (size_t i = 0; i < n; i++) {
		char heard[4096];

		if (i && read(c, heard, sizeof(heard)) <= 0)
			_exit(1);
		if (write(c, words[i], strlen(words[i])) < 0)
			_exit(1);
	}
	while (ending == REPEATS)
		if (write(c, words[n - 1], strlen(words[n - 1])) < 0)
			_exit(1);
	if (ending == HANGS)
		pause();
	_exit(0);
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

#define SERVE(ending, ...) \
	serve((const char *const []){ __VA_ARGS__ }, \
	      ARRAY_SIZE(((const char *const []){ __VA_ARGS__ })), ending)

static void opens_to(pid_t server, int want, const char *what)
{
	char err[VM_ERR_MAX] = "";
	const uint64_t start = now_ms();
	struct qmp q;
	int rc = qmp_open(&q, path, err);

	judge(rc == want && (rc == 0 || *err) &&
	      now_ms() - start < 3 * QMP_TIMEOUT_MS, what, err);
	if (rc == 0)
		qmp_close(&q);
	end(server);
}

static void test_open(void)
{
	static char split[] = GREETING EVENT EVENT "{\"retu";

	opens_to(SERVE(HANGS, GREETING, EMPTY), 0, "a greeting, and accepted");
	opens_to(SERVE(HANGS, EVENT GREETING, EVENT EVENT EMPTY), 0,
		 "events in between are passed over");
	opens_to(SERVE(HANGS, split, "rn\": {}}\n"), 0,
		 "answers may come in pieces");
	opens_to(SERVE(HANGS, ""), -ETIMEDOUT, "no greeting");
	opens_to(SERVE(HANGS, GREETING), -ETIMEDOUT, "no answer");
	opens_to(SERVE(HANGS, "{\"QMP\": {"), -ETIMEDOUT, "half a greeting");
	opens_to(SERVE(CLOSES, ""), -EPIPE, "closed at once");
	opens_to(SERVE(CLOSES, GREETING), -EPIPE, "closed after the greeting");
	opens_to(SERVE(HANGS, "SSH-2.0-OpenSSH\r\n"), -EPROTO, "not JSON");
	opens_to(SERVE(HANGS, "[1]\r\n"), -EPROTO, "not an object");
	opens_to(SERVE(HANGS, "{\"return\": {}}\r\n"), -EPROTO,
		 "not a greeting");
	opens_to(SERVE(HANGS, GREETING, "{\"error\": {\"class\": \"x\","
		       " \"desc\": \"not today\"}}\r\n"), -EREMOTEIO,
		 "refused, in its own words");
	opens_to(SERVE(HANGS, GREETING, "{\"error\": 7}\r\n"), -EREMOTEIO,
		 "refused, in no words");
	opens_to(SERVE(REPEATS, GREETING, EVENT), -ETIMEDOUT,
		 "events for ever");
	opens_to(SERVE(REPEATS, "{\"QMP\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
		 -EMSGSIZE, "a line for ever");
}

static void test_connect(void)
{
	char err[VM_ERR_MAX] = "";
	struct qmp q;
	FILE *f;
	int fd;

	unlink(path);
	judge(qmp_open(&q, path, err) == -ENOENT && strstr(err, "-qmp"),
	      "no socket", err);
	f = fopen(path, "w");
	if (f)
		fclose(f);
	judge(qmp_open(&q, path, err) == -ENOTSOCK && strstr(err, "-qmp"),
	      "a file", err);
	fd = listen_here();
	close(fd);
	judge(qmp_open(&q, path, err) == -ECONNREFUSED, "nobody listens", err);
	unlink(path);
}

static void test_monitor(void)
{
	pid_t server = SERVE(HANGS, GREETING, EMPTY,
			     "{\"return\": \"one\\r\\ntwo\"}\r\n",
			     "{\"return\": 7}\r\n", "{}\r\n");
	char err[VM_ERR_MAX] = "", *text = NULL;
	json_t *ret = NULL;
	struct qmp q;
	int rc = qmp_open(&q, path, err);

	if (!rc)
		rc = qmp_monitor(&q, "info \"quoted\"", &text, err);
	judge(rc == 0 && !strcmp(text, "one\r\ntwo"), "a monitor's text", err);
	free(text);
	judge(qmp_monitor(&q, "info", &text, err) == -EPROTO,
	      "a number is no text", err);
	judge(qmp_command(&q, "stop", NULL, &ret, err) == -EREMOTEIO,
	      "neither a value nor an error is an error", err);
	judge(qmp_peer(&q) == getpid(), "who made the socket is known", err);
	end(server);
	judge(qmp_command(&q, "stop", NULL, &ret, err) == -EPIPE,
	      "a VMM that has ended", err);
	qmp_close(&q);
}

int main(void)
{
	snprintf(path, sizeof(path), "/tmp/ds-qmp.%d", getpid());
	test_open();
	test_connect();
	test_monitor();
	unlink(path);
	return tap_end();
}
