/* SPDX-License-Identifier: GPL-2.0 */
/* Only used with CONFIG_IOASID_REF_TRACKER */
