/* SPDX-License-Identifier: MIT */
/* msg.c - the control stream between tracer and daemon */
#include "wire/msg.h"

size_t msg_size(uint32_t type)
{
	static const struct msg *const m;	/* for sizeof only */

	switch ((enum msg_type)type) {
	case MSG_HELLO:
		return MSG_HEAD + sizeof(m->hello);
	case MSG_POLICY:
		return MSG_HEAD + sizeof(m->policy);
	case MSG_RULE:
		return MSG_HEAD + sizeof(m->rule);
	case MSG_START:
		return MSG_HEAD + sizeof(m->start);
	case MSG_SHADOW_NEW:
	case MSG_SHADOW_RESET:
	case MSG_SHADOW_DROP:
		return MSG_HEAD + sizeof(m->shadow);
	case MSG_THREAD_NEW:
	case MSG_THREAD_DROP:
	case MSG_CANCEL:
	case MSG_RING:
	case MSG_ASLEEP:
		return MSG_HEAD + sizeof(m->thread);
	case MSG_PLACE:
		return MSG_HEAD + sizeof(m->place);
	case MSG_FILE:
	case MSG_FILE_DROP:
		return MSG_HEAD + sizeof(m->file);
	case MSG_WINDOW:
		return MSG_HEAD + sizeof(m->window);
	case MSG_MAP:
		return MSG_HEAD + sizeof(m->map);
	case MSG_FSIZE:
		return MSG_HEAD + sizeof(m->fsize);
	case MSG_GETFD:
	case MSG_CLOSE:
		return MSG_HEAD + sizeof(m->fd);
	case MSG_MOUNT:
	case MSG_UMOUNT:
		return MSG_HEAD + sizeof(m->mount);
	case MSG_OWNER:
		return MSG_HEAD + sizeof(m->owner);
	case MSG_SIGNAL:
		return MSG_HEAD + sizeof(m->signal);
	case MSG_REPLY:
		return MSG_HEAD + sizeof(m->reply);
	case MSG_REPLY_TEXT:
		return MSG_HEAD + sizeof(m->reply_text);
	case MSG_GONE:
		return MSG_HEAD + sizeof(m->gone);
	case MSG_TYPES:
		break;
	}
	return 0;
}
