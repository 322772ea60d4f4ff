/*
 * Debian has musl, and no libstdc++ for it, which Bun's build for musl wants. glibc's libstdc++ and
 * libgcc do under musl, too, once they find the few functions that only glibc has: here they are, in
 * what they load under the name of glibc's loader, ld-linux-x86-64.so.2.
 */
#define _GNU_SOURCE
#include <link.h>
#include <locale.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

char __libc_single_threaded = 0;

uint32_t arc4random(void)
{
	uint32_t number;

	if (getrandom(&number, sizeof number, 0) != sizeof number)
		abort();
	return number;
}

size_t __strftime_l(char *s, size_t size, const char *format, const struct tm *tm, locale_t locale)
{
	return strftime_l(s, size, format, tm, locale);
}

/* libgcc's own, which musl's loader does not see behind their hidden versions. No CPU is known. */
unsigned int __cpu_model[8];

int __cpu_indicator_init(void)
{
	return 0;
}

/* Destructors of thread_local objects, the last one first. */
struct destructor {
	void (*run)(void *);
	void *object;
	struct destructor *next;
};

static pthread_key_t destructors;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void run_all(void *list)
{
	for (struct destructor *next, *one = list; one; one = next) {
		next = one->next;
		one->run(one->object);
		free(one);
	}
}

static void make_key(void)
{
	if (pthread_key_create(&destructors, run_all))
		abort();
}

int __cxa_thread_atexit_impl(void (*run)(void *), void *object, void *library)
{
	struct destructor *one = malloc(sizeof *one);

	(void)library;
	pthread_once(&once, make_key);
	if (!one)
		return -1;
	*one = (struct destructor){ run, object, pthread_getspecific(destructors) };
	return pthread_setspecific(destructors, one);
}

/* Where exceptions find the tables for unwinding: struct dl_find_object of glibc's <dlfcn.h>. */
struct dl_find_object {
	unsigned long long flags;
	void *map_start, *map_end;
	struct link_map *map;
	void *eh_frame;
	unsigned long long reserved[7];
};

struct search {
	uintptr_t pc;
	struct dl_find_object *result;
};

static int look(struct dl_phdr_info *info, size_t size, void *data)
{
	struct search *search = data;
	struct dl_find_object found = { 0 };

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + header->p_vaddr;
		uintptr_t end = start + header->p_memsz;

		if (header->p_type == PT_LOAD && search->pc >= start && search->pc < end) {
			found.map_start = (void *)start;
			found.map_end = (void *)end;
		} else if (header->p_type == PT_GNU_EH_FRAME) {
			found.eh_frame = (void *)start;
		}
	}
	if (!found.map_start || !found.eh_frame)
		return 0;
	*search->result = found;
	return 1;
}

int _dl_find_object(void *pc, struct dl_find_object *result)
{
	struct search search = { (uintptr_t)pc, result };

	return dl_iterate_phdr(look, &search) ? 0 : -1;
}
