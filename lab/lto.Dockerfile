# A host with a second Python, /opt/lto, that was linked with LTO by another gcc than the host's own, as Anaconda's is:
# there `pip install uwsgi` fails with "lto-wrapper failed". Built once, in about ten minutes on two cores.
FROM flaskfleet-host:bookworm AS build
WORKDIR /build
RUN sed -n 's/^deb \(.* bookworm main\)/deb-src \1/p' /etc/apt/sources.list >/etc/apt/sources.list.d/src.list \
    && apt-get update -qq \
    && apt-get install -qq --no-install-recommends gcc-11 libc6-dev make libssl-dev libffi-dev zlib1g-dev \
    && apt-get source -qq --download-only python3.11 \
    && tar --extract --strip-components=1 --file python3.11_*.orig.tar.gz
# It is to remember the name gcc, not gcc-11: with that uWSGI would find the right one by itself.
RUN mkdir bin && ln -s /usr/bin/gcc-11 bin/gcc \
    && export PATH=/build/bin:$PATH AR=gcc-ar-11 RANLIB=gcc-ranlib-11 \
    && ./configure --quiet --prefix=/opt/lto --with-lto --disable-shared --disable-test-modules \
    && make --quiet -j "$(nproc)" \
    && make --quiet install

FROM flaskfleet-host:bookworm
RUN apt-get update -qq && apt-get install -qq --no-install-recommends libssl3 libffi8 zlib1g
COPY --from=build /opt/lto /opt/lto
