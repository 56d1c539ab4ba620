/* ISA-L's stream behind four functions, so that its layout stays the header's business. */
#include <isa-l/igzip_lib.h>
#include <stdlib.h>

struct ferry_isal {
    struct isal_zstream stream;
    uint8_t *level_buffer;
};

static const uint32_t LEVEL_BUFFER[] = {ISAL_DEF_LVL0_DEFAULT, ISAL_DEF_LVL1_DEFAULT, ISAL_DEF_LVL2_DEFAULT,
                                        ISAL_DEF_LVL3_DEFAULT};

struct ferry_isal *ferry_isal_new(uint32_t level) {
    if (level > 3) return NULL;
    struct ferry_isal *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    isal_deflate_init(&self->stream);
    self->stream.gzip_flag = IGZIP_GZIP;
    self->stream.flush = NO_FLUSH;
    self->stream.level = level;
    self->stream.level_buf_size = LEVEL_BUFFER[level];
    if (LEVEL_BUFFER[level] > 0) {
        self->level_buffer = malloc(LEVEL_BUFFER[level]);
        if (!self->level_buffer) {
            free(self);
            return NULL;
        }
        self->stream.level_buf = self->level_buffer;
    }
    return self;
}

/* Returns 0, or ISA-L's error. *in_len and *out_len become what was used; *done says that the member is complete. */
int ferry_isal_deflate(struct ferry_isal *self, const uint8_t *in, uint32_t *in_len, uint8_t *out, uint32_t *out_len,
                       int end, int *done) {
    struct isal_zstream *s = &self->stream;
    uint32_t given_in = *in_len, given_out = *out_len;
    s->next_in = (uint8_t *)in;
    s->avail_in = given_in;
    s->next_out = out;
    s->avail_out = given_out;
    s->end_of_stream = end;
    int result = isal_deflate(s);
    *in_len = given_in - s->avail_in;
    *out_len = given_out - s->avail_out;
    *done = s->internal_state.state == ZSTATE_END;
    return result;
}

void ferry_isal_free(struct ferry_isal *self) {
    if (!self) return;
    free(self->level_buffer);
    free(self);
}
