// SPDX-License-Identifier: LGPL-2.1-or-later
/* unit/test_status.c - the status document: written and read again it is the same; what is no such document is refused */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lazy/status.h"
#include "util/err.h"

/* Every number another, so that two that change places show. */
static struct thaw_status sample(void)
{
	struct thaw_status s = { .version = "1.2.3", .phase = "serving", .pid = 77 };
	uint64_t n = 1000, *each = &s.tasks_expected;
	struct thaw_status_task *t;

	while (each <= &s.left_ns)
		*each++ = n++;
	s.stats.size = sizeof(s.stats);
	for (each = &s.stats.faults; each < (uint64_t *)(&s.stats + 1); each++)
		*each = n++;
	s.stats.bytes_placed = s.placed;
	strcpy(s.source.kind, "page-server");
	strcpy(s.source.state, "lost");
	strcpy(s.source.where, "host.example:1234");
	for (each = &s.source.bytes; each <= &s.source.short_answers; each++)
		*each = n++;
	for (unsigned i = 0; i < 3; i++) {
		t = thaw_status_add(&s);
		cr_assert_not_null(t);
		strcpy(t->state, i ? "waiting" : "gone");
		t->child = i == 2;
		t->pid = n++;
		t->here = n++;
		for (each = &t->total; each <= &t->p99; each++)
			*each = n++;
	}
	return s;
}

static void same(const struct thaw_status *a, const struct thaw_status *b)
{
	cr_assert_str_eq(a->version, b->version);
	cr_assert_str_eq(a->phase, b->phase);
	cr_assert_eq(memcmp(&a->pid, &b->pid, (char *)(&a->left_ns + 1) - (char *)&a->pid), 0);
	cr_assert_eq(memcmp(&a->stats.faults, &b->stats.faults, sizeof(a->stats) - sizeof(a->stats.size)), 0);
	cr_assert_str_eq(a->source.kind, b->source.kind);
	cr_assert_str_eq(a->source.state, b->source.state);
	cr_assert_str_eq(a->source.where, b->source.where);
	cr_assert_eq(memcmp(&a->source.bytes, &b->source.bytes, 6 * sizeof(uint64_t)), 0);
	cr_assert_eq(a->n_tasks, b->n_tasks);
	for (size_t i = 0; i < a->n_tasks; i++) {
		const struct thaw_status_task *x = &a->task[i], *y = &b->task[i];

		cr_assert_str_eq(x->state, y->state);
		cr_assert_eq(x->child, y->child);
		cr_assert(x->pid == y->pid && x->here == y->here);
		cr_assert_eq(memcmp(&x->total, &y->total, 8 * sizeof(uint64_t)), 0);
	}
}

Test(status, what_is_written_is_read)
{
	for (unsigned pretty = 0; pretty < 2; pretty++) {
		struct thaw_status s = sample(), back;
		char *text = thaw_status_to_json(&s, pretty);

		cr_assert_not_null(text);
		cr_assert_eq(strchr(text, '\n') != NULL, pretty);
		cr_assert_eq(thaw_status_from_json(&back, text, strlen(text)), 0, "%s", thaw_err_text());
		same(&s, &back);
		free(text);
		thaw_status_free(&s);
		thaw_status_free(&back);
	}
}

Test(status, time_left_may_be_unknown)
{
	struct thaw_status s = sample(), back;
	char *text;

	s.left_ns = UINT64_MAX;
	s.total = 1ULL << 62; /* beyond what a double can tell apart */
	s.total += 1;
	text = thaw_status_to_json(&s, false);
	cr_assert_not_null(strstr(text, "\"left_ns\":null"));
	cr_assert_eq(thaw_status_from_json(&back, text, strlen(text)), 0);
	same(&s, &back);
	free(text);
	thaw_status_free(&s);
	thaw_status_free(&back);
}

Test(status, cut_short_it_is_refused)
{
	struct thaw_status s = sample(), back;
	char *text = thaw_status_to_json(&s, false);

	for (size_t len = 0; len < strlen(text); len++) {
		cr_assert_eq(thaw_status_from_json(&back, text, len), -EBADMSG, "%zu bytes", len);
		thaw_status_free(&back);
	}
	free(text);
	thaw_status_free(&s);
}

static void refused(const char *text, const char *words)
{
	struct thaw_status s;

	cr_assert_eq(thaw_status_from_json(&s, text, strlen(text)), -EBADMSG, "%s", text);
	cr_assert_not_null(strstr(thaw_err_text(), words), "%s: says %s", text, thaw_err_text());
	thaw_status_free(&s);
}

Test(status, what_is_something_else_is_refused)
{
	struct thaw_status s = sample();
	char *text = thaw_status_to_json(&s, false), *at;

	refused("", "without an answer");
	refused("HTTP/1.1 400 Bad Request", "no status");
	refused("[]", "no status");
	refused("{}", "'thaw'");
	refused("null", "no status");
	at = strstr(text, "\"phase\"");
	at[1] = 'f';
	refused(text, "'phase'");
	at[1] = 'p';
	at = strstr(text, "\"tasks\":[{");
	memcpy(at, "\"tasks\":17 ", 10);
	refused(text, "no status");
	free(text);
	thaw_status_free(&s);
}

Test(status, a_terminal_gets_no_control_characters)
{
	struct thaw_status s = sample(), back;
	char *text;

	strcpy(s.source.where, "a\033[2Jb\n");
	text = thaw_status_to_json(&s, false);
	cr_assert_eq(thaw_status_from_json(&back, text, strlen(text)), 0);
	cr_assert_str_eq(back.source.where, "a?[2Jb?");
	free(text);
	thaw_status_free(&s);
	thaw_status_free(&back);
}

/* Each sample belongs to the metric that has been announced last, which has been announced once. */
Test(status, prometheus_can_read_it)
{
	struct thaw_status s = sample();
	char *text = thaw_status_to_prometheus(&s), *line, *save, name[128] = "";
	unsigned metrics = 0, samples = 0;

	cr_assert_not_null(strstr(text, "\nthaw_placed_bytes_total 1005\n"));
	cr_assert_not_null(strstr(text, "thaw_source_state{state=\"lost\"} 1\n"));
	cr_assert_not_null(strstr(text, "thaw_source_state{state=\"local\"} 0\n"));
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char now[128];

		if (sscanf(line, "# TYPE %127s", name) == 1) {
			metrics++;
			continue;
		}
		if (!strncmp(line, "# HELP ", 7))
			continue;
		cr_assert_eq(sscanf(line, "%127[a-z_]", now), 1, "%s", line);
		cr_assert_eq(strncmp(now, name, strlen(name)), 0, "%s behind %s", line, name);
		cr_assert_not_null(strrchr(line, ' '));
		samples++;
	}
	cr_assert(metrics > 25 && samples > metrics);
	free(text);
	thaw_status_free(&s);
}
