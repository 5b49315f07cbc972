/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/lazy/page_server.h - thaw page-server as a test runs it, and a client that says to it whatever it is told to.
 * Lifetime  the server ends with the test, or page_server_stop() */
#ifndef TESTS_LAZY_PAGE_SERVER_H
#define TESTS_LAZY_PAGE_SERVER_H

#include <stdint.h>
#include <sys/types.h>

struct page_server {
	pid_t pid;
	int port;
	char log[160]; /* what it has said */
};

/* `more`: further options, ended by NULL. Returns when it listens. */
void page_server_start(struct page_server *s, const char *dir, const char *const *more);
int page_server_stop(struct page_server *s); /* SIGTERM; its exit status */
/* The same while a client keeps it busy: a process that does so for FLOOD_S seconds and is gone then. It has to end sooner. */
#define FLOOD_S 20
void page_server_stop_busy(struct page_server *s);
/* How often a word stands in what it has said. */
unsigned page_server_said(const struct page_server *s, const char *word);
/* "RssAnon" and the like of /proc/PID/status, in KiB. */
long page_server_status(const struct page_server *s, const char *field);

int raw_connect(int port);
/* Sends a header; layout 24 or 32. */
void raw_send(int fd, int layout, uint32_t cmd, uint64_t pages, uint64_t addr, uint64_t id);
/* Reads len bytes: 1, or 0 when the other side has ended it before. buf NULL: throws them away. */
int raw_receive(int fd, void *buf, uint64_t len);
/* Reads the header of an answer: its number of pages, 0: the other side has ended it. */
uint64_t raw_reply(int fd, int layout, uint64_t addr, uint64_t id);
/* Has the other side ended it (waits for it)? */
int raw_ended(int fd);

#endif
