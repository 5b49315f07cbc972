// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/certs.c - runs certs.sh, and says where its files are */
#include "config.h"
#include "lazy/certs.h"

#include <stdio.h>
#include <stdlib.h>

#include "support/imagedir.h"
#include "support/live.h"

static struct scratch dir;

bool certs_make(void)
{
	const char *src = getenv("THAW_SRCDIR");
	char cmd[1024];

	if (system("command -v certtool >/dev/null"))
		return false;
	scratch_begin(&dir);
	snprintf(cmd, sizeof(cmd), "bash '%s/tests/lazy/certs.sh' '%s'", src ? src : "..", dir.path);
	LIVE_CHECK(!system(cmd));
	return true;
}

void certs_remove(void)
{
	scratch_end(&dir);
}

const char *certs_file(const char *name)
{
	static char paths[16][256];
	static unsigned next;
	char *p = paths[next++ % 16];

	snprintf(p, sizeof(paths[0]), "%s/%s", dir.path, name);
	return p;
}

void certs_serve(struct fake_options *o, const char *who)
{
	char name[64];

	o->tls_ca = certs_file("ca.pem");
	snprintf(name, sizeof(name), "%s.pem", who);
	o->tls_cert = certs_file(name);
	snprintf(name, sizeof(name), "%s.key", who);
	o->tls_key = certs_file(name);
}
