# An IOASID core for the kernel: this folder's listing is the kernel's tree; see README.md.
#
# All that is built lies in $XDG_CACHE_HOME/ioasid (~/.cache/ioasid) and is reused.

.PHONY: help
help: ## this list
	@echo 'make <target>:'
	@sed -n 's/^\([a-z]*\):.*## */\1\t/p' $(MAKEFILE_LIST) | expand -t 12 | sed 's/^/  /'
	@echo
	@echo 'KSRC=/path    a kernel tree of your own instead of Debian'\''s linux-source-7.3'
	@echo 'DISTDIR=/path a folder of QEMU source archives to use before downloading'
	@echo 'JOBS=n        parallel compilations (default: all processors)'

export KSRC EXTRA DISTDIR QEMU_SRC JOBS M OUT

.PHONY: run check compare mutants rules shell style lint coverage kunit deps tree refresh series bisect kernel qemu clean
run: deps ## boot it and show the life of an IOASID, with DMA without PASID and with tagged DMA
	@scripts/run
check: deps ## every test; the last line is 'N passed, N failed, N skipped'
	@scripts/check
compare: deps ## the base kernel and ours on the same machine: faults, waits, transfers after the end of the owner
	@compare/run
mutants: deps ## break one rule after the other on purpose; each must be caught (M='name ...': only these)
	@scripts/mutants $(M)
rules: ## the rules as a table: the mutant that breaks each, and the test that then fails
	@scripts/mutants -l
shell: deps ## a root shell in the booted kernel (Ctrl-A X ends QEMU)
	@qemu/boot -i
style: deps ## what takes seconds of lint: checkpatch --strict, kernel-doc, the glossary, what documents name; KTAP
	@scripts/style
lint: deps ## style, W=1 (x86, arm64, riscv, clang), sparse, coccicheck, sphinx, shellcheck; 'N findings'
	@scripts/lint
deps: ## install the Debian packages that are needed
	@scripts/deps
coverage: deps ## the KUnit suites, and which lines of the core they do not reach
	@scripts/coverage
kunit: deps ## only the KUnit suites, under UML
	@scripts/kunit
tree: deps ## the patched kernel as a git tree, one commit a patch; prints its path
	@scripts/tree
refresh: deps ## turn the commits in the kernel tree back into patches and files
	@scripts/refresh
series: deps ## the series as mails, one mailing per sub-series, proven to give the tree that is tested (OUT=/path: there)
	@scripts/series
bisect: deps ## build each step of it in several configurations (C=name: only that)
	@scripts/bisect $(C)
kernel: deps ## build the x86 kernel; prints the path of the image
	@scripts/kernel
qemu: deps ## build QEMU with our device; prints the path of the binary
	@qemu/build
clean: ## remove what was built (downloads stay)
	@scripts/clean
